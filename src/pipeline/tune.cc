// Runs what the search asks for and judges it by the dense results of the same noise.
#include "tamias/tune.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <optional>
#include <utility>

#include "base/check.h"
#include "pipeline/tune_search.h"
#include "tamias/likeness.h"

namespace tamias {
namespace {

void CheckOptions(const Pipeline& pipeline, const TuneOptions& options) {
  if (options.generate.sparsity == "off") {
    Fail(ErrorCode::kInvalidArgument, "sparsity: 'off' leaves nothing to tune");
  }
  if (!(options.min_psnr >= 0 && options.min_psnr <= 99)) {
    Fail(ErrorCode::kInvalidArgument, "min_psnr: expected a number from 0 to 99, found {}",
         options.min_psnr);
  }
  pipeline.PlanMemory(options.generate);  // refuses bad options before an hour of work
  const GenerationSettings settings = pipeline.Settings(options.generate);
  CheckComparable(settings.width, settings.height);
}

// The options of every run; its sparsity, steps, prompt and seed come on top.
GenerateOptions RunOptions(const TuneOptions& options) {
  GenerateOptions generate = options.generate;
  generate.decode = true;
  generate.on_prediction = {};
  generate.on_latents = {};
  generate.on_result = {};
  return generate;
}

class Tuner {
 public:
  Tuner(const Pipeline& pipeline, const TuneOptions& options)
      : pipeline_(pipeline),
        options_(options),
        prompts_(options.prompts.empty() ? std::vector{options.generate.prompt} : options.prompts),
        run_options_(RunOptions(options)),
        dense_options_(run_options_),
        steps_(pipeline.Settings(options.generate).steps),
        second_expert_step_(pipeline.SecondExpertStep(options.generate)) {
    dense_options_.sparsity = "off";
    dense_options_.overrides.clear();
    Outcome dense = Generate("dense", dense_options_, &traces_);
    dense_seconds_ = dense.seconds;
    dense_ = std::move(dense.films);
  }

  double dense_seconds() const { return dense_seconds_; }

  std::string ProfileOf(const TuneChoice& choice) const {
    return pipeline_.SparsityYaml(OptionsOf(choice));
  }

  TuneTrial Run(const TuneChoice& choice, const std::string& profile) const {
    const GenerateOptions generate = OptionsOf(choice);
    const int steps = pipeline_.NumSteps(generate);
    return Judge(DescribeSetting(ParseSparsityConfig(profile, "tune"), steps), profile, generate);
  }

  // Plain dense steps, as many as the time of a trial allows.
  TuneTrial RunFewerSteps(const TuneTrial& trial) const {
    GenerateOptions generate = dense_options_;
    const double share = std::min(1.0, trial.seconds / dense_seconds_);
    generate.steps = std::max(1, static_cast<int>(std::lround(share * steps_)));
    return Judge(fmt::format("{} plain steps", *generate.steps), "", generate);
  }

 private:
  // What the prompts gave with one setting.
  struct Outcome {
    double seconds = 0;  // of denoising, all prompts
    std::vector<Video> films;
    double attention_sparsity = 0;  // mean
    double mlp_sparsity = 0;        // mean
  };

  // What the caller has fixed comes last.
  GenerateOptions OptionsOf(const TuneChoice& choice) const {
    GenerateOptions generate = run_options_;
    generate.overrides = TuneOverrides(choice, traces_, second_expert_step_);
    std::ranges::copy(run_options_.overrides, std::back_inserter(generate.overrides));
    return generate;
  }

  // traces: where to add the predictions of each result, or null.
  Outcome Generate(const std::string& run, GenerateOptions generate,
                   std::vector<PredictionTrace>* traces = nullptr) const {
    Outcome outcome;
    const auto count = static_cast<double>(prompts_.size());
    TuneProgress at = {.run = run, .prompt = 0, .num_prompts = prompts_.size(), .progress = {}};
    for (; at.prompt < prompts_.size(); ++at.prompt) {
      generate.prompt = prompts_[at.prompt];
      generate.seed = options_.generate.seed + at.prompt;
      if (traces != nullptr) {
        const size_t first = traces->size();
        traces->resize(first + static_cast<size_t>(generate.num_images));
        generate.on_prediction = [=](const StepPrediction& made) {
          (*traces)[first + static_cast<size_t>(made.image)].Add(made.values, made.sigma,
                                                                 made.next_sigma);
        };
      }
      GenerateResult result = pipeline_.Generate(generate, [&](const Progress& progress) {
        at.progress = progress;
        return !options_.on_progress || options_.on_progress(at);
      });
      outcome.seconds += result.seconds_denoise;
      outcome.attention_sparsity += result.attention_sparsity / count;
      outcome.mlp_sparsity += result.mlp_sparsity / count;
      std::ranges::move(TakeFilms(result), std::back_inserter(outcome.films));
    }
    return outcome;
  }

  // Runs a setting and compares its results with the dense ones.
  TuneTrial Judge(const std::string& name, const std::string& profile,
                  const GenerateOptions& generate) const {
    const Outcome outcome = Generate(name, generate);
    const Likeness likeness = CompareFilms(outcome.films, dense_);
    const TuneTrial trial = {.name = name,
                             .profile = profile,
                             .seconds = outcome.seconds,
                             .speedup = dense_seconds_ / outcome.seconds,
                             .psnr = likeness.worst_psnr,
                             .psnr_mean = likeness.psnr,
                             .ssim = likeness.ssim,
                             .attention_sparsity = outcome.attention_sparsity,
                             .mlp_sparsity = outcome.mlp_sparsity,
                             .is_alike = likeness.worst_psnr >= options_.min_psnr};
    if (options_.on_trial) options_.on_trial(trial);
    return trial;
  }

  const Pipeline& pipeline_;
  const TuneOptions& options_;
  std::vector<std::string> prompts_;
  GenerateOptions run_options_;
  GenerateOptions dense_options_;
  int steps_;
  int second_expert_step_;
  double dense_seconds_ = 0;
  std::vector<Video> dense_;
  std::vector<PredictionTrace> traces_;  // of the dense results
};

}  // namespace

TuneResult Tune(const Pipeline& pipeline, const TuneOptions& options) {
  CheckOptions(pipeline, options);
  const Tuner tuner(pipeline, options);
  TuneSearch search([&](const TuneChoice& choice) { return tuner.ProfileOf(choice); },
                    [&](const TuneChoice& choice, const std::string& profile) {
                      return tuner.Run(choice, profile);
                    });
  const std::optional<size_t> fastest = search.FindFastest();
  if (!fastest) {
    const std::vector<TuneTrial>& trials = search.trials();
    const auto best = std::ranges::max_element(trials, {}, &TuneTrial::psnr);
    Fail(ErrorCode::kInvalidArgument, "min_psnr: no setting reaches {:g} dB with {} steps{}",
         options.min_psnr, pipeline.Settings(options.generate).steps,
         best == trials.end() ? "" : fmt::format("; {} reached {:.1f} dB", best->name, best->psnr));
  }
  TuneResult result;
  result.seconds_dense = tuner.dense_seconds();
  result.trials = search.trials();
  result.fastest_trial = *fastest;
  result.fewer_steps = tuner.RunFewerSteps(result.fastest());
  return result;
}

}  // namespace tamias
