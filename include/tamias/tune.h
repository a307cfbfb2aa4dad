// The fastest sparsity settings of a model that keep its results alike enough, found by running
// them.
//
//   tamias::Pipeline pipeline("models/demo-flux");
//   tamias::TuneOptions options;
//   options.generate.prompt = "a large red circle at the center on a grey background";
//   options.min_psnr = 30;
//   const tamias::TuneResult tuned = Tune(pipeline, options);
//   tamias::WriteFileAtomically("tuned.yml", tuned.fastest().profile);
//   // later: options.sparsity = "tuned.yml"
//
// Generates densely once (each prompt), then with ever bolder settings: steps skipped, columns and
// neurons left out, last the other forms of reuse and merge; at most eleven of them. Then as many
// plain steps as the time of the fastest allows, to compare it with. Each run takes as long as a
// generation: minutes to hours.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tamias/pipeline.h"

namespace tamias {

// One setting, run over all prompts and judged by the dense results of the same noise.
struct TuneTrial {
  std::string name;               // "9 of 12 steps skipped (prediction), columns 20 % lse"
  std::string profile;            // the setting as YAML; "" of plain steps
  double seconds = 0;             // of denoising, all prompts
  double speedup = 0;             // over dense, likewise
  double psnr = 0;                // dB, of the worst result: the mean over its frames
  double psnr_mean = 0;           // dB, mean over all frames of all results
  double ssim = 0;                // likewise
  double attention_sparsity = 0;  // as in GenerateResult, mean over the prompts
  double mlp_sparsity = 0;
  bool is_alike = false;  // psnr is at least TuneOptions::min_psnr
};

// A run under way.
struct TuneProgress {
  std::string run;  // "dense", or the trial's name
  size_t prompt = 0;
  size_t num_prompts = 1;
  Progress progress;  // of the prompt's generation
};

struct TuneOptions {
  // What to generate. `sparsity` names the profile that settings start from, and keys fixed by
  // `overrides` stay as they are in all of them. `decode` and the callbacks do not count.
  GenerateOptions generate;
  // Judged by all of them; prompt i takes generate.seed + i. Empty: by generate.prompt alone.
  std::vector<std::string> prompts;
  double min_psnr = 28;  // dB that the worst result must keep, 0 to 99

  // Both are called on the tuning thread. Progress: returning false stops with an Error of code
  // kCancelled.
  std::function<bool(const TuneProgress&)> on_progress;
  // A trial that is done; the plain steps come last.
  std::function<void(const TuneTrial&)> on_trial;
};

struct TuneResult {
  double seconds_dense = 0;       // of denoising, all prompts
  std::vector<TuneTrial> trials;  // no two of the same setting, in the order of their runs
  size_t fastest_trial = 0;       // of those that are alike
  TuneTrial fewer_steps;          // plain dense steps in the time of the fastest
  const TuneTrial& fastest() const { return trials[fastest_trial]; }
};

// The number of the fastest trial that is alike; nothing: none is.
std::optional<size_t> FastestAlike(std::span<const TuneTrial> trials);

// Throws kInvalidArgument where nothing can be tuned (sparsity is off), min_psnr is out of range,
// pictures are too small to compare (tamias/likeness.h) or no setting keeps min_psnr, naming the
// one that comes nearest; kCancelled; and as Pipeline::Generate. What a callback throws ends it.
TuneResult Tune(const Pipeline& pipeline, const TuneOptions& options);

}  // namespace tamias
