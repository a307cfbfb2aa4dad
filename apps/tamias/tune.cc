// `tamias tune`: the fastest sparsity settings of a model that keep its results alike enough, found
// by running them, and written as a profile.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/machine.h"
#include "commands.h"
#include "common_options.h"
#include "io/read_file.h"
#include "likeness.h"
#include "number_options.h"
#include "output_files.h"
#include "progress.h"
#include "sparsity/config.h"
#include "sparsity/skip_schedule.h"

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
the dense ones as --min-psnr asks. Starts from the profile of --sparsity; keys fixed by --set stay
as they are. At the end it says what plain runs with fewer steps give in the same time.)";

struct Options {
  CommonOptions common;
  std::string prompt_file;
  std::vector<std::string> prompts;  // of --prompt or of the file; prompt i takes seed + i
  double min_psnr = 28;
  std::string output = "tuned.yml";
};

constexpr size_t kMaxPromptFileBytes = size_t{1} << 20;

// One of `period` steps is run; which, is chosen from the predictions of the dense run.
constexpr std::array<int, 5> kPeriods = {1, 2, 3, 4, 5};

// Shares of key columns and neurons that a sparse step computes; 1: no deltas.
struct Density {
  double columns;
  double neurons;
};
constexpr std::array<Density, 5> kDensities = {
    {{1, 1}, {0.35, 0.5}, {0.2, 0.4}, {0.1, 0.3}, {0.05, 0.2}}};

// A place in the table of settings, and the two forms that are tried at the end.
struct Choice {
  size_t period = 0;   // of kPeriods
  size_t density = 0;  // of kDensities
  StepReuse reuse = StepReuse::kPrediction;
  std::optional<AttentionMerge> merge = {};  // empty: as the profile has it
};

// Changes to the profile started from.
using Setting = std::vector<std::string>;

struct Trial {
  std::string name;
  Choice choice;
  std::string profile;  // the setting with what --set fixes, as YAML
  double seconds = 0;   // of denoising
  double speedup = 0;   // over dense, likewise
  double psnr = 0;      // dB, of the worst result
  double psnr_mean = 0;
  double ssim = 0;  // mean
  double attention_sparsity = 0;
  double mlp_sparsity = 0;
  bool is_alike = false;  // as --min-psnr asks
};

std::vector<int64_t> SkippedSteps(const std::vector<int64_t>& runs, int64_t steps) {
  std::vector<int64_t> skipped;
  for (int64_t step = 0; step < steps; ++step) {
    if (!std::ranges::binary_search(runs, step)) skipped.push_back(step);
  }
  return skipped;
}

// Full steps of attention among those that run. Of all steps: close together at first, never more
// than ten apart. Of few: the first seven, as what strays early strays farthest, then every other.
std::vector<int64_t> FullSteps(const std::vector<int64_t>& runs, int64_t steps) {
  std::vector<int64_t> full;
  if (static_cast<int64_t>(runs.size()) == steps) {
    full = {0, 1, 2, 4, 7, 12};
    for (int64_t step = 20; step < steps; step += 10) full.push_back(step);
    std::erase_if(full, [&](int64_t step) { return step >= steps; });
    return full;
  }
  for (size_t i = 0; i < runs.size(); ++i) {
    if (i < 7 || i % 2 == 0) full.push_back(runs[i]);
  }
  return full;
}

// traces: of the dense runs.
Setting MakeSetting(const Choice& choice, std::span<const PredictionTrace> traces) {
  const int64_t steps = traces[0].num_steps();
  const int64_t period = kPeriods[choice.period];
  const Density& density = kDensities[choice.density];
  const bool is_sparse = density.columns < 1;
  const std::vector<int64_t> runs = ChooseRuns(traces, (steps + period / 2) / period, choice.reuse);
  Setting setting = {
      fmt::format("steps={}", steps), fmt::format("step_caching.is_enabled={}", period > 1),
      fmt::format("attn.is_enabled={}", is_sparse), fmt::format("mlp.is_enabled={}", is_sparse)};
  if (period > 1) {
    setting.push_back(fmt::format("step_caching.reuse={}", Name(choice.reuse)));
    setting.push_back(fmt::format("step_caching.skip_step_schedule=[{}]",
                                  fmt::join(SkippedSteps(runs, steps), ", ")));
  }
  if (is_sparse) {
    setting.push_back(fmt::format("attn.top_keys={}", density.columns));
    setting.push_back(
        fmt::format("attn.full_step_schedule=[{}]", fmt::join(FullSteps(runs, steps), ", ")));
    setting.push_back(fmt::format("mlp.top_keys={}", density.neurons));
  }
  if (choice.merge) {
    setting.emplace_back(*choice.merge == AttentionMerge::kLse ? "attn.merge=lse"
                                                               : "attn.merge=additive");
  }
  return setting;
}

// What a profile does, in a few words.
std::string Describe(const SparsityConfig& config, int steps) {
  std::vector<std::string> parts;
  if (config.step_caching.is_enabled) {
    parts.push_back(fmt::format("{} of {} steps skipped ({})",
                                config.step_caching.skip_step_schedule.size(), steps,
                                Name(config.step_caching.reuse)));
  }
  if (config.attn.is_enabled) {
    const bool is_lse = config.attn.merge == AttentionMerge::kLse;
    parts.push_back(fmt::format("columns {:.3g} % {}", 100 * config.attn.top_keys,
                                is_lse ? "lse" : "additive"));
  }
  if (config.mlp.is_enabled) {
    parts.push_back(fmt::format("neurons {:.3g} %", 100 * config.mlp.top_keys));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

// Runs settings of one model and judges them by the dense result of the same noise.
class Tuner {
 public:
  Tuner(const Pipeline& pipeline, const Options& options, int steps)
      : pipeline_(pipeline),
        options_(options),
        steps_(steps),
        dense_options_(options.common.generate) {
    dense_options_.sparsity = "off";
    dense_options_.overrides.clear();
    Outcome dense = Generate("dense", dense_options_, &traces_);
    dense_seconds_ = dense.seconds;
    dense_ = std::move(dense.films);
  }

  double dense_seconds() const { return dense_seconds_; }
  const std::vector<Trial>& trials() const { return trials_; }

  // Whether the choice keeps the floor. Runs it, unless --set makes it equal to one that was run,
  // or leaves nothing that differs from dense.
  bool IsAlike(const Choice& choice) {
    GenerateOptions generate = options_.common.generate;
    generate.overrides = MakeSetting(choice, traces_);
    const std::vector<std::string>& fixed = options_.common.generate.overrides;
    generate.overrides.insert(generate.overrides.end(), fixed.begin(), fixed.end());
    const std::string profile = pipeline_.SparsityYaml(generate);
    if (profile.empty()) return true;
    for (const Trial& trial : trials_) {
      if (trial.profile == profile) return trial.is_alike;
    }
    const int steps = pipeline_.NumSteps(generate);
    Trial trial = Run(Describe(ParseSparsityConfig(profile, "tune"), steps), generate);
    trial.choice = choice;
    trial.profile = profile;
    trials_.push_back(std::move(trial));
    return trials_.back().is_alike;
  }

  // Plain dense steps, as many as the time of a trial allows.
  Trial RunFewerSteps(const Trial& trial) const {
    GenerateOptions generate = dense_options_;
    const double share = std::min(1.0, trial.seconds / dense_seconds_);
    generate.steps = std::max(1, static_cast<int>(std::lround(share * steps_)));
    return Run(fmt::format("{} plain steps", *generate.steps), generate);
  }

 private:
  // What the prompts gave with one setting.
  struct Outcome {
    double seconds = 0;  // of denoising, all prompts
    std::vector<Video> films;
    double attention_sparsity = 0;  // mean
    double mlp_sparsity = 0;        // mean
  };

  // traces: where to add the predictions of each result, or null.
  Outcome Generate(const std::string& label, GenerateOptions generate,
                   std::vector<PredictionTrace>* traces = nullptr) const {
    Outcome outcome;
    const auto count = static_cast<double>(options_.prompts.size());
    for (size_t i = 0; i < options_.prompts.size(); ++i) {
      const bool is_only = options_.prompts.size() == 1;
      ProgressPrinter progress(
          is_only ? label : fmt::format("{}, prompt {}/{}", label, i + 1, options_.prompts.size()),
          options_.common.quiet);
      generate.prompt = options_.prompts[i];
      generate.seed = options_.common.generate.seed + i;
      if (traces != nullptr) {
        const size_t first = traces->size();
        traces->resize(first + static_cast<size_t>(generate.num_images));
        generate.on_prediction = [=](const StepPrediction& at) {
          (*traces)[first + static_cast<size_t>(at.image)].Add(at.values, at.sigma, at.next_sigma);
        };
      }
      GenerateResult result = pipeline_.Generate(generate, std::ref(progress));
      outcome.seconds += result.seconds_denoise;
      outcome.attention_sparsity += result.attention_sparsity / count;
      outcome.mlp_sparsity += result.mlp_sparsity / count;
      std::ranges::move(TakeFilms(result), std::back_inserter(outcome.films));
    }
    return outcome;
  }

  Trial Run(const std::string& name, const GenerateOptions& generate) const {
    const Outcome outcome = Generate(name, generate);
    const Likeness likeness = Compare(dense_, outcome.films);
    Trial trial;
    trial.name = name;
    trial.seconds = outcome.seconds;
    trial.speedup = dense_seconds_ / trial.seconds;
    trial.psnr = likeness.worst_psnr;
    trial.psnr_mean = likeness.psnr;
    trial.ssim = likeness.ssim;
    trial.attention_sparsity = outcome.attention_sparsity;
    trial.mlp_sparsity = outcome.mlp_sparsity;
    trial.is_alike = trial.psnr >= options_.min_psnr;
    if (!options_.common.json) {
      fmt::print("{:<60}{:>8.2f}x{:>9.1f} dB (mean {:.1f})\n", name, trial.speedup, trial.psnr,
                 trial.psnr_mean);
      std::fflush(stdout);
    }
    return trial;
  }

  const Pipeline& pipeline_;
  const Options& options_;
  int steps_;
  GenerateOptions dense_options_;
  double dense_seconds_ = 0;
  std::vector<Video> dense_;
  std::vector<PredictionTrace> traces_;  // of the dense results
  std::vector<Trial> trials_;
};

// Likeness falls with every skipped step and every column left out. So the settings that just keep
// the floor lie on a staircase through the table of periods and densities, and walking down it from
// the boldest skipping meets them all in at most nine runs.
void WalkStaircase(Tuner& tuner) {
  Choice choice;
  choice.period = kPeriods.size() - 1;
  while (choice.density < kDensities.size()) {
    if (tuner.IsAlike(choice)) {
      ++choice.density;
    } else if (choice.period > 0) {
      --choice.period;
    } else {
      break;
    }
  }
}

const Trial* Fastest(const std::vector<Trial>& trials) {
  const Trial* fastest = nullptr;
  for (const Trial& trial : trials) {
    if (trial.is_alike && (fastest == nullptr || trial.seconds < fastest->seconds)) {
      fastest = &trial;
    }
  }
  return fastest;
}

// What skipped steps reuse, and how the stale part of attention is merged: which is more alike
// depends on the model.
const Trial* TryOtherForms(Tuner& tuner, const Trial* best) {
  if (ParseSparsityConfig(best->profile, "tune").step_caching.is_enabled) {
    Choice other = best->choice;
    other.reuse = StepReuse::kExtrapolate;
    tuner.IsAlike(other);
    best = Fastest(tuner.trials());
  }
  const SparsityConfig chosen = ParseSparsityConfig(best->profile, "tune");
  if (chosen.attn.is_enabled) {
    Choice other = best->choice;
    other.merge = chosen.attn.merge == AttentionMerge::kLse ? AttentionMerge::kAdditive
                                                            : AttentionMerge::kLse;
    tuner.IsAlike(other);
    best = Fastest(tuner.trials());
  }
  return best;
}

nlohmann::ordered_json ToJson(const Trial& trial) {
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

void WriteProfile(const Options& options, const std::string& model, const Trial& best) {
  const std::string header = fmt::format(
      "# Written by `tamias tune` {} for {}:\n# {}, {:.2f}x at {:.1f} dB (asked: {:g}; mean "
      "{:.1f}) over {} prompt{}, on {}.\n",
      Version(), model, best.name, best.speedup, best.psnr, options.min_psnr, best.psnr_mean,
      options.prompts.size(), options.prompts.size() == 1 ? "" : "s", MachineName());
  WriteOutput(OutputPath(options.output), [&] { return header + best.profile; });
}

// The prompts to judge by: --prompt, or the lines of --prompt-file.
std::vector<std::string> ReadPrompts(const Options& options) {
  const bool has_prompt = !options.common.generate.prompt.empty();
  if (has_prompt == !options.prompt_file.empty()) {
    Fail(ErrorCode::kInvalidArgument, "prompt: expected either --prompt or --prompt-file");
  }
  if (has_prompt) return {options.common.generate.prompt};
  std::vector<std::string> prompts;
  std::istringstream lines(ReadFile(options.prompt_file, kMaxPromptFileBytes));
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (!line.empty()) prompts.push_back(line);
  }
  if (prompts.empty()) {
    Fail(ErrorCode::kInvalidFile, "{}: expected one prompt a line, found none",
         options.prompt_file);
  }
  return prompts;
}

void Run(Options& options) {
  options.prompts = ReadPrompts(options);
  const GenerateOptions& generate = options.common.generate;
  if (generate.sparsity == "off") {
    Fail(ErrorCode::kInvalidArgument, "sparsity: 'off' leaves nothing to tune");
  }
  const Pipeline pipeline(options.common.model, options.common.load);
  ReadInputImage(pipeline, options.common);
  if (!(options.min_psnr >= 0 && options.min_psnr <= 99)) {
    Fail(ErrorCode::kInvalidArgument, "min-psnr: expected a number from 0 to 99, found {}",
         options.min_psnr);
  }
  pipeline.PlanMemory(generate);  // refuses bad options before an hour of work
  const auto settings = SettingsOf(pipeline, generate);
  CheckSsimSize(settings.at("width"), settings.at("height"));
  CheckWritable(OutputPath(options.output));
  PrintWarnings(pipeline, options.common);
  const int steps = settings.at("steps");

  Tuner tuner(pipeline, options, steps);
  WalkStaircase(tuner);
  const Trial* best = Fastest(tuner.trials());
  if (best == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "min-psnr: no setting reaches {:g} dB with {} steps",
         options.min_psnr, steps);
  }
  best = TryOtherForms(tuner, best);
  const Trial plain = tuner.RunFewerSteps(*best);
  WriteProfile(options, settings.at("model"), *best);

  if (options.common.json) {
    nlohmann::ordered_json report = {{"seconds_dense", tuner.dense_seconds()},
                                     {"min_psnr", options.min_psnr},
                                     {"machine", MachineName()},
                                     {"best", ToJson(*best)},
                                     {"fewer_steps", ToJson(plain)},
                                     {"profile", options.output}};
    for (const Trial& trial : tuner.trials()) report["trials"].push_back(ToJson(trial));
    fmt::print("{}\n", report.dump(2));
    return;
  }
  fmt::print("best: {}, {:.2f}x at {:.1f} dB; in the same time {}: {:.1f} dB{}\n", best->name,
             best->speedup, best->psnr, plain.name, plain.psnr,
             plain.psnr > best->psnr ? " (fewer steps win here)" : "");
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
          "--prompt-file", options->prompt_file,
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
