// `tamias tune`: the fastest sparsity settings of a model that keep its results alike enough, found
// by running them, and written as a profile.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/machine.h"
#include "commands.h"
#include "common_options.h"
#include "io/atomic_file.h"
#include "likeness.h"
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
the dense ones as --min-psnr asks. Takes about as long as three to six dense generations. Starts
from the profile of --sparsity; keys fixed by --set stay as they are. At the end it says what plain
runs with fewer steps give in the same time.)";

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

struct Setting {
  std::string name;
  std::vector<std::string> overrides;  // of the profile started from
};

struct Trial {
  Setting setting;
  double seconds = 0;  // of denoising
  double speedup = 0;  // over dense, likewise
  double psnr = 0;     // dB, of the worst result
  double ssim = 0;     // mean
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
  const bool skips = period > 1;
  const bool is_sparse = density.columns < 1;
  Setting setting;
  setting.name = skips ? fmt::format("{} of {} steps skipped", period - 1, period) : "no skips";
  setting.overrides = {
      fmt::format("steps={}", steps), fmt::format("step_caching.is_enabled={}", skips),
      fmt::format("attn.is_enabled={}", is_sparse), fmt::format("mlp.is_enabled={}", is_sparse)};
  if (skips) {
    setting.overrides.emplace_back("step_caching.order=1");
    setting.overrides.push_back(fmt::format("step_caching.skip_step_schedule=[{}]",
                                            fmt::join(SkippedSteps(period, steps), ", ")));
  }
  if (is_sparse) {
    setting.name += fmt::format(", columns {:.0f} %, neurons {:.0f} %", 100 * density.columns,
                                100 * density.neurons);
    setting.overrides.push_back(fmt::format("attn.top_keys={}", density.columns));
    setting.overrides.push_back(
        fmt::format("attn.full_step_schedule=[{}]", fmt::join(FullSteps(steps), ", ")));
    setting.overrides.push_back(fmt::format("mlp.top_keys={}", density.neurons));
  }
  return setting;
}

// Runs settings of one model and judges them by the dense result of the same noise.
class Tuner {
 public:
  Tuner(const Pipeline& pipeline, const Options& options)
      : pipeline_(pipeline), options_(options), dense_options_(options.common.generate) {
    dense_options_.sparsity = "off";
    dense_options_.overrides.clear();
    GenerateResult dense = Generate("dense", dense_options_);
    dense_seconds_ = dense.seconds_denoise;
    dense_ = TakeFilms(dense);
  }

  double dense_seconds() const { return dense_seconds_; }
  const std::vector<Trial>& trials() const { return trials_; }

  // The options that a setting stands for; keys that the user has fixed win.
  GenerateOptions With(const Setting& setting) const {
    GenerateOptions generate = options_.common.generate;
    generate.overrides = setting.overrides;
    const std::vector<std::string>& fixed = options_.common.generate.overrides;
    generate.overrides.insert(generate.overrides.end(), fixed.begin(), fixed.end());
    return generate;
  }

  const Trial& Try(const Setting& setting) {
    trials_.push_back(Run(setting.name, With(setting)));
    trials_.back().setting = setting;
    return trials_.back();
  }

  // Plain dense steps, as many as the time of a trial allows.
  Trial TryFewerSteps(const Trial& trial, int steps) const {
    GenerateOptions generate = dense_options_;
    const double share = std::min(1.0, trial.seconds / dense_seconds_);
    generate.steps = std::max(1, static_cast<int>(std::lround(share * steps)));
    const std::string name = fmt::format("{} plain steps", *generate.steps);
    Trial plain = Run(name, generate);
    plain.setting.name = name;
    return plain;
  }

 private:
  GenerateResult Generate(const std::string& label, const GenerateOptions& generate) const {
    ProgressPrinter progress(label, options_.common.quiet);
    return pipeline_.Generate(generate, std::ref(progress));
  }

  Trial Run(const std::string& label, const GenerateOptions& generate) const {
    GenerateResult result = Generate(label, generate);
    const Likeness likeness = Compare(dense_, TakeFilms(result));
    Trial trial;
    trial.seconds = result.seconds_denoise;
    trial.speedup = dense_seconds_ / trial.seconds;
    trial.psnr = likeness.worst_psnr;
    trial.ssim = likeness.ssim;
    trial.attention_sparsity = result.attention_sparsity;
    trial.mlp_sparsity = result.mlp_sparsity;
    trial.is_alike = trial.psnr >= options_.min_psnr;
    return trial;
  }

  const Pipeline& pipeline_;
  const Options& options_;
  GenerateOptions dense_options_;
  double dense_seconds_ = 0;
  std::vector<Video> dense_;
  std::vector<Trial> trials_;
};

void PrintTrial(const Trial& trial) {
  fmt::print("{:<58}{:>8.2f}x{:>9.1f} dB\n", trial.setting.name, trial.speedup, trial.psnr);
  std::fflush(stdout);
}

// Likeness falls with every skipped step and every column left out. So the settings that just keep
// the floor lie on a staircase through the table of periods and densities, and walking down it from
// the boldest skipping meets them all in at most nine runs.
void WalkStaircase(Tuner& tuner, int steps, bool prints) {
  size_t period = kPeriods.size() - 1;
  size_t density = 0;
  while (density < kDensities.size()) {
    const bool is_dense = period == 0 && density == 0;
    bool is_alike = true;
    if (!is_dense) {
      const Trial& trial = tuner.Try(MakeSetting(kPeriods[period], kDensities[density], steps));
      if (prints) PrintTrial(trial);
      is_alike = trial.is_alike;
    }
    if (is_alike) {
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

// The chosen setting with the other merge of cached and computed attention; which one is more alike
// depends on the model. None without deltas.
std::optional<Setting> OtherMerge(const SparsityConfig& chosen, const Setting& setting) {
  if (!chosen.attn.is_enabled) return std::nullopt;
  const char* other = chosen.attn.merge == AttentionMerge::kLse ? "additive" : "lse";
  Setting with = setting;
  with.name += fmt::format(", merge {}", other);
  with.overrides.push_back(fmt::format("attn.merge={}", other));
  return with;
}

nlohmann::ordered_json ToJson(const Trial& trial) {
  return {{"name", trial.setting.name},
          {"seconds", trial.seconds},
          {"speedup", trial.speedup},
          {"psnr", trial.psnr},
          {"ssim", trial.ssim},
          {"attention_sparsity", trial.attention_sparsity},
          {"mlp_sparsity", trial.mlp_sparsity},
          {"is_alike", trial.is_alike}};
}

void WriteProfile(const Pipeline& pipeline, const Tuner& tuner, const Options& options,
                  const Trial& best) {
  const std::string header = fmt::format(
      "# Written by `tamias tune` {} for {}:\n# {}, {:.2f}x at {:.1f} dB (asked: {:g}), on {}.\n",
      Version(), std::filesystem::path(options.common.model).filename().string(), best.setting.name,
      best.speedup, best.psnr, options.min_psnr, MachineName());
  WriteFileAtomically(options.output, header + pipeline.SparsityYaml(tuner.With(best.setting)));
}

void Run(const Options& options) {
  const GenerateOptions& generate = options.common.generate;
  if (generate.sparsity == "off") {
    Fail(ErrorCode::kInvalidArgument, "sparsity: 'off' leaves nothing to tune");
  }
  const Pipeline pipeline(options.common.model);
  pipeline.PlanMemory(generate);  // refuses bad options before an hour of work
  CheckWritable(options.output);
  PrintWarnings(pipeline, options.common);
  const int steps = generate.steps.value_or(std::stoi(pipeline.info().defaults.at("steps")));
  const bool prints = !options.common.json;

  Tuner tuner(pipeline, options);
  WalkStaircase(tuner, steps, prints);
  const Trial* best = Fastest(tuner.trials());
  if (best == nullptr) {
    Fail(ErrorCode::kInvalidArgument, "min-psnr: no setting reaches {:g} dB with {} steps",
         options.min_psnr, steps);
  }
  const SparsityConfig chosen =
      ParseSparsityConfig(pipeline.SparsityYaml(tuner.With(best->setting)), "tune");
  if (const auto other = OtherMerge(chosen, best->setting)) {
    const Trial& trial = tuner.Try(*other);
    if (prints) PrintTrial(trial);
    best = Fastest(tuner.trials());
  }
  const Trial plain = tuner.TryFewerSteps(*best, steps);
  if (prints) PrintTrial(plain);
  WriteProfile(pipeline, tuner, options, *best);

  if (!prints) {
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
  fmt::print("best: {}, {:.2f}x at {:.1f} dB; in the same time {}: {:.1f} dB{}\n",
             best->setting.name, best->speedup, best->psnr, plain.setting.name, plain.psnr,
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
  command
      ->add_option("--min-psnr", options->min_psnr,
                   "Likeness to the dense result that the worst result must keep, in dB")
      ->check(CLI::Range(0.0, 99.0))
      ->type_name("DB")
      ->capture_default_str();
  command->add_option("--output", options->output, "Profile to write")
      ->type_name("FILE.yml")
      ->capture_default_str();
  command->footer(kExamples);
  command->callback([options] { Run(*options); });
}

}  // namespace tamias::cli
