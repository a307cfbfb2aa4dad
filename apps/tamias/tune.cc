// `tamias tune`: the fastest sparsity settings of a model that keep its results alike enough, found
// by running them, and written as a profile.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/machine.h"
#include "commands.h"
#include "common_options.h"
#include "likeness.h"
#include "number_options.h"
#include "output_files.h"
#include "progress.h"
#include "sparsity/config.h"

namespace tamias::cli {
namespace {

constexpr char kExamples[] = R"(Examples:
  tamias tune --model models/demo-flux --output my.yml \
      --prompt "a large red star at the center on a wooden beige background"
  tamias tune --model FLUX.1-dev --prompt "a chipmunk in a library" --width 1280 --height 768 \
      --min-psnr 25 --num-images 3 --output library.yml
  tamias generate --model FLUX.1-dev --prompt "a chipmunk on a bicycle" --width 1280 --height 768 \
      --sparsity library.yml

Generates densely once, then with ever bolder settings (steps skipped, columns and neurons left
out, both merge forms), at most ten of them, and writes the fastest whose results are as much like
the dense ones as --min-psnr asks. Starts from the profile of --sparsity; keys fixed by --set stay
as they are. At the end it says what plain runs with fewer steps give in the same time.)";

struct Options {
  CommonOptions common;
  double min_psnr = 28;
  std::string output = "tuned.yml";
};

// Of each `period` steps all but one are skipped, after the first steps, which decide the layout.
constexpr std::array<int, 5> kPeriods = {1, 2, 3, 4, 5};
constexpr int kFirstSteps = 4;

// Shares of key columns and neurons that a sparse step computes; 1: no deltas.
struct Density {
  double columns;
  double neurons;
};
constexpr std::array<Density, 5> kDensities = {
    {{1, 1}, {0.35, 0.5}, {0.2, 0.4}, {0.1, 0.3}, {0.05, 0.2}}};

// Changes to the profile started from.
using Setting = std::vector<std::string>;

struct Trial {
  std::string name;
  Setting setting;
  std::string profile;  // the setting with what --set fixes, as YAML
  double seconds = 0;   // of denoising
  double speedup = 0;   // over dense, likewise
  double psnr = 0;      // dB, of the worst result
  double ssim = 0;      // mean
  double attention_sparsity = 0;
  double mlp_sparsity = 0;
  bool is_alike = false;  // as --min-psnr asks
};

std::vector<int> SkippedSteps(int period, int steps) {
  std::vector<int> skipped;
  for (int step = kFirstSteps; step < steps - 1; ++step) {
    if ((step - kFirstSteps + 1) % period != 0) skipped.push_back(step);
  }
  return skipped;
}

// Full steps of attention: close together at first, never more than ten apart.
std::vector<int> FullSteps(int steps) {
  std::vector<int> full = {0, 1, 2, 4, 7, 12};
  for (int step = 20; step < steps; step += 10) full.push_back(step);
  std::erase_if(full, [&](int step) { return step >= steps; });
  return full;
}

Setting MakeSetting(int period, const Density& density, int steps) {
  const bool is_sparse = density.columns < 1;
  Setting setting = {
      fmt::format("steps={}", steps), fmt::format("step_caching.is_enabled={}", period > 1),
      fmt::format("attn.is_enabled={}", is_sparse), fmt::format("mlp.is_enabled={}", is_sparse)};
  if (period > 1) {
    setting.emplace_back("step_caching.order=1");
    setting.push_back(fmt::format("step_caching.skip_step_schedule=[{}]",
                                  fmt::join(SkippedSteps(period, steps), ", ")));
  }
  if (is_sparse) {
    setting.push_back(fmt::format("attn.top_keys={}", density.columns));
    setting.push_back(
        fmt::format("attn.full_step_schedule=[{}]", fmt::join(FullSteps(steps), ", ")));
    setting.push_back(fmt::format("mlp.top_keys={}", density.neurons));
  }
  return setting;
}

// What a profile does, in a few words.
std::string Describe(const SparsityConfig& config, int steps) {
  std::vector<std::string> parts;
  if (config.step_caching.is_enabled) {
    parts.push_back(fmt::format("{} of {} steps skipped",
                                config.step_caching.skip_step_schedule.size(), steps));
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
    GenerateResult dense = Generate("dense", dense_options_);
    dense_seconds_ = dense.seconds_denoise;
    dense_ = TakeFilms(dense);
  }

  double dense_seconds() const { return dense_seconds_; }
  const std::vector<Trial>& trials() const { return trials_; }

  // Whether the setting keeps the floor. Runs it, unless --set makes it equal to one that was run,
  // or leaves nothing that differs from dense.
  bool IsAlike(const Setting& setting) {
    GenerateOptions generate = options_.common.generate;
    generate.overrides = setting;
    const std::vector<std::string>& fixed = options_.common.generate.overrides;
    generate.overrides.insert(generate.overrides.end(), fixed.begin(), fixed.end());
    const std::string profile = pipeline_.SparsityYaml(generate);
    if (profile.empty()) return true;
    for (const Trial& trial : trials_) {
      if (trial.profile == profile) return trial.is_alike;
    }
    Trial trial = Run(Describe(ParseSparsityConfig(profile, "tune"), steps_), generate);
    trial.setting = setting;
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
  GenerateResult Generate(const std::string& label, const GenerateOptions& generate) const {
    ProgressPrinter progress(label, options_.common.quiet);
    return pipeline_.Generate(generate, std::ref(progress));
  }

  Trial Run(const std::string& name, const GenerateOptions& generate) const {
    GenerateResult result = Generate(name, generate);
    const Likeness likeness = Compare(dense_, TakeFilms(result));
    Trial trial;
    trial.name = name;
    trial.seconds = result.seconds_denoise;
    trial.speedup = dense_seconds_ / trial.seconds;
    trial.psnr = likeness.worst_psnr;
    trial.ssim = likeness.ssim;
    trial.attention_sparsity = result.attention_sparsity;
    trial.mlp_sparsity = result.mlp_sparsity;
    trial.is_alike = trial.psnr >= options_.min_psnr;
    if (!options_.common.json) {
      fmt::print("{:<60}{:>8.2f}x{:>9.1f} dB\n", name, trial.speedup, trial.psnr);
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
  std::vector<Trial> trials_;
};

// Likeness falls with every skipped step and every column left out. So the settings that just keep
// the floor lie on a staircase through the table of periods and densities, and walking down it from
// the boldest skipping meets them all in at most nine runs.
void WalkStaircase(Tuner& tuner, int steps) {
  size_t period = kPeriods.size() - 1;
  size_t density = 0;
  while (density < kDensities.size()) {
    if (tuner.IsAlike(MakeSetting(kPeriods[period], kDensities[density], steps))) {
      ++density;
    } else if (period > 0) {
      --period;
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

nlohmann::ordered_json ToJson(const Trial& trial) {
  return {{"name", trial.name},
          {"seconds", trial.seconds},
          {"speedup", trial.speedup},
          {"psnr", trial.psnr},
          {"ssim", trial.ssim},
          {"attention_sparsity", trial.attention_sparsity},
          {"mlp_sparsity", trial.mlp_sparsity},
          {"is_alike", trial.is_alike}};
}

void WriteProfile(const Options& options, const std::string& model, const Trial& best) {
  const std::string header = fmt::format(
      "# Written by `tamias tune` {} for {}:\n# {}, {:.2f}x at {:.1f} dB (asked: {:g}), on {}.\n",
      Version(), model, best.name, best.speedup, best.psnr, options.min_psnr, MachineName());
  WriteOutput(OutputPath(options.output), [&] { return header + best.profile; });
}

void Run(Options& options) {
  const GenerateOptions& generate = options.common.generate;
  if (generate.sparsity == "off") {
    Fail(ErrorCode::kInvalidArgument, "sparsity: 'off' leaves nothing to tune");
  }
  const Pipeline pipeline(options.common.model);
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
  WalkStaircase(tuner, steps);
  const Trial* best = Fastest(tuner.trials());
  if (best == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "min-psnr: no setting reaches {:g} dB with {} steps",
         options.min_psnr, steps);
  }
  const SparsityConfig chosen = ParseSparsityConfig(best->profile, "tune");
  if (chosen.attn.is_enabled) {  // which merge is more alike depends on the model
    Setting other = best->setting;
    other.emplace_back(chosen.attn.merge == AttentionMerge::kLse ? "attn.merge=additive"
                                                                 : "attn.merge=lse");
    tuner.IsAlike(other);
    best = Fastest(tuner.trials());
  }
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
