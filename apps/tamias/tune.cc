// `tamias tune`: the fastest sparsity settings of a model that keep its results alike enough,
// written as a profile.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "commands.h"
#include "common_options.h"
#include "fail.h"
#include "number_options.h"
#include "output_files.h"
#include "progress.h"
#include "tamias/files.h"
#include "tamias/machine.h"
#include "tamias/tune.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias tune --model models/demo-flux --output my.yml \
      --prompt "a large red star at the center on a wooden beige background"
  tamias tune --model models/demo-flux --prompt-file prompts.txt --min-psnr 30 --output my.yml
  tamias tune --model FLUX.1-dev --prompt "a chipmunk in a library" --width 1280 --height 768 \
      --min-psnr 25 --num-images 3 --output library.yml
  tamias generate --model FLUX.1-dev --prompt "a chipmunk on a bicycle" --width 1280 --height 768 \
      --sparsity library.yml

Generates densely once (each prompt of --prompt-file), then with ever bolder settings (steps skipped, columns and neurons left
out; last the other forms of reuse and merge), at most eleven of them, and writes the fastest whose results are as much like
the dense ones as --min-psnr asks; interrupted, the fastest of those so far. Starts from the profile of --sparsity; keys fixed
by --set stay as they are. At the end it says what plain runs with fewer steps give in the same time.)";

struct Options {
  CommonOptions common;
  double min_psnr = TuneOptions().min_psnr;
  std::string output = "tuned.yml";
};

constexpr size_t kMaxPromptFileBytes = size_t{1} << 20;

// A bar for each generation, named by what runs.
class TuneProgressPrinter {
 public:
  explicit TuneProgressPrinter(bool quiet) : quiet_(quiet) {}

  bool operator()(const TuneProgress& at) {
    const std::string label = at.num_prompts == 1 ? at.run
                                                  : fmt::format("{}, prompt {}/{}", at.run,
                                                                at.prompt + 1, at.num_prompts);
    if (!printer_ || label != label_) {
      printer_.emplace(label, quiet_);
      label_ = label;
    }
    return (*printer_)(at.progress);
  }
  // Whoever prints something else calls it before.
  void End() { printer_.reset(); }

 private:
  bool quiet_;
  std::string label_;
  std::optional<ProgressPrinter> printer_;
};

void Print(const TuneTrial& trial) {
  fmt::print("{:<60}{:>8.2f}x{:>9.1f} dB (mean {:.1f})\n", trial.name, trial.speedup, trial.psnr,
             trial.psnr_mean);
  std::fflush(stdout);
}

nlohmann::ordered_json ToJson(const TuneTrial& trial) {
  return {{"name", trial.name},
          {"seconds", trial.seconds},
          {"speedup", trial.speedup},
          {"psnr", trial.psnr},
          {"psnr_mean", trial.psnr_mean},
          {"ssim", trial.ssim},
          {"attention_sparsity", trial.attention_sparsity},
          {"mlp_sparsity", trial.mlp_sparsity},
          {"is_alike", trial.is_alike}};
}

// Where the profile comes from, as a comment of it.
std::string Header(const TuneOptions& options, const std::string& model, const TuneTrial& best) {
  const size_t prompts = options.prompts.size();
  return fmt::format(
      "# Written by `tamias tune` {} for {}:\n# {}, {:.2f}x at {:.1f} dB (asked: {:g}; mean "
      "{:.1f}) over {} prompt{}, on {}.\n",
      Version(), model, best.name, best.speedup, best.psnr, options.min_psnr, best.psnr_mean,
      prompts, prompts == 1 ? "" : "s", MachineName());
}

nlohmann::ordered_json Report(const std::vector<TuneTrial>& trials, const TuneTrial& best,
                              const Options& options) {
  nlohmann::ordered_json report = {{"min_psnr", options.min_psnr},
                                   {"machine", MachineName()},
                                   {"best", ToJson(best)},
                                   {"profile", options.output}};
  for (const TuneTrial& trial : trials) report["trials"].push_back(ToJson(trial));
  return report;
}

// After a failure or a signal: the best of what was measured is written all the same. The failure
// itself is what matters: another one on the way is not told.
void WriteBestSoFar(const std::vector<TuneTrial>& trials, const TuneOptions& tune,
                    const std::string& model, const Options& options, const std::string& error) {
  const std::optional<size_t> fastest = FastestAlike(trials);
  const std::filesystem::path path = OutputPath(options.output);
  if (!fastest || IsWrittenDirectly(path)) return;
  const TuneTrial& best = trials[*fastest];
  try {
    WriteFileAtomically(path, Header(tune, model, best) + best.profile);
    std::fprintf(stderr, "tamias: note: the best so far is in %s: %s, %.2fx at %.1f dB\n",
                 options.output.c_str(), best.name.c_str(), best.speedup, best.psnr);
    if (!options.common.json) return;
    nlohmann::ordered_json report = Report(trials, best, options);
    report["error"] = error;
    fmt::print("{}\n", report.dump(2));
  } catch (const std::exception&) {
  }
}

// The prompts to judge by: --prompt, or the lines of --prompt-file.
std::vector<std::string> ReadPrompts(const Options& options) {
  const bool has_prompt = !options.common.generate.prompt.empty();
  if (has_prompt == !options.common.prompt_file.empty()) {
    Fail(ErrorCode::kInvalidArgument, "prompt: expected either --prompt or --prompt-file");
  }
  if (has_prompt) return {options.common.generate.prompt};
  std::vector<std::string> prompts;
  std::istringstream lines(ReadFile(options.common.prompt_file, kMaxPromptFileBytes));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) prompts.push_back(line);
  }
  if (prompts.empty()) {
    Fail(ErrorCode::kInvalidFile, "{}: expected one prompt a line, found none",
         options.common.prompt_file);
  }
  return prompts;
}

void Run(Options& options) {
  TuneOptions tune;
  tune.prompts = ReadPrompts(options);
  tune.min_psnr = options.min_psnr;
  const Pipeline pipeline(options.common.model, options.common.load);
  ReadInputImage(pipeline, options.common);
  tune.generate = options.common.generate;
  CommandFiles files = InputsOf(options.common);
  files.AddOutput("--output", OutputPath(options.output));
  if (options.common.json) files.AddOutput("--json", OutputPath("-"));
  CheckWritable(OutputPath(options.output));
  PrintWarnings(pipeline, options.common);

  const std::string model = SettingsOf(pipeline, tune.generate).at("model");
  std::vector<TuneTrial> trials;  // of settings: plain steps are none
  TuneProgressPrinter progress(options.common.quiet);
  tune.on_progress = std::ref(progress);
  tune.on_trial = [&](const TuneTrial& trial) {
    progress.End();
    if (!options.common.json) Print(trial);
    if (!trial.profile.empty()) trials.push_back(trial);
  };
  TuneResult result;
  try {
    result = Tune(pipeline, tune);
  } catch (const std::exception& error) {
    progress.End();
    WriteBestSoFar(trials, tune, model, options, error.what());
    throw;
  }
  const TuneTrial& best = result.fastest();
  WriteOutput(OutputPath(options.output), [&] { return Header(tune, model, best) + best.profile; });

  if (options.common.json) {
    nlohmann::ordered_json report = Report(result.trials, best, options);
    report["seconds_dense"] = result.seconds_dense;
    report["fewer_steps"] = ToJson(result.fewer_steps);
    fmt::print("{}\n", report.dump(2));
    return;
  }
  const TuneTrial& plain = result.fewer_steps;
  fmt::print("best: {}, {:.2f}x at {:.1f} dB; in the same time {}: {:.1f} dB{}\n", best.name,
             best.speedup, best.psnr, plain.name, plain.psnr,
             plain.psnr > best.psnr ? " (fewer steps win here)" : "");
  fmt::print("wrote {}: use it with --sparsity {}\n", options.output, options.output);
}

}  // namespace

void AddTuneCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("tune", "Find the fastest settings that keep a model's results alike");
  auto options = std::make_shared<Options>();
  AddModelOptions(*command, options->common);
  AddPromptOptions(*command, options->common);
  command->get_option("--prompt")->required(false);
  command
      ->add_option(
          "--prompt-file", options->common.prompt_file,
          "Instead of --prompt: prompts to judge by, one a line; prompt i takes seed + i - 1")
      ->type_name("FILE");
  AddNumber(*command, "--min-psnr", options->min_psnr,
            "Likeness to the dense result that the worst result must keep, in dB, 0 to 99")
      ->type_name("DB")
      ->default_str(fmt::format("{}", options->min_psnr));
  command->add_option("--output", options->output, "Profile to write")
      ->type_name("FILE.yml")
      ->capture_default_str();
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
