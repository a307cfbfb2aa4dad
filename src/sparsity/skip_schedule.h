// Which steps to run when only some of them may be: chosen from the predictions of a dense run, by
// dynamic programming, so that what stands in for the skipped ones (step_caching.reuse) strays from
// the dense path as little as it can.
//
// Symbols: T steps, v_t the prediction (velocity) of step t, s_t its noise level, s_T the last. A
// skipped step t uses u_t instead of v_t: v_a of the last step a that ran or, extrapolating, the
// line through the last two at s_t. An Euler step is linear in v, so a gap between two runs moves
// the sample from the dense path by e = sum over its steps of (s_{t+1} - s_t)(u_t - v_t). How the
// model answers a strayed sample is not seen, as it is not run again; but what strays early is
// carried through all that the predictions still change, so the e of a gap after run a counts
// exp(kGrowth r_a) times, with r_a = sum over t >= a of |v_{t+1} - v_t| / |v_t|. Chosen are the
// runs whose sum of squares is smallest. Where another model takes over on the way, its first step
// runs, and no prediction serves across it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tamias/sparsity/config.h"

namespace tamias {

// The inner products <v_a, v_b> of the predictions of one dense run.
class PredictionTrace {
 public:
  // Adds the prediction of the next step, made at noise level `sigma`, from where the step leads to
  // `next_sigma`. All predictions have one size; of large ones every k-th number is kept, 2^18 at
  // most (T of them stay in memory). Throws kInvalidArgument for a size that differs.
  void Add(std::span<const float> prediction, double sigma, double next_sigma);

  int64_t num_steps() const { return static_cast<int64_t>(sigmas_.size()); }
  double sigma(int64_t step) const { return sigmas_[static_cast<size_t>(step)]; }
  // s_{step + 1} - s_step
  double stride(int64_t step) const { return strides_[static_cast<size_t>(step)]; }
  double Product(int64_t a, int64_t b) const;
  // r_step: how much the predictions change from this step on.
  double Remaining(int64_t step) const;

 private:
  size_t size_ = 0;  // of a prediction, as given
  std::vector<std::vector<float>> predictions_;
  std::vector<std::vector<double>> products_;  // [a][b], b <= a
  std::vector<double> sigmas_;
  std::vector<double> strides_;
};

// Measured on the picture demo (docs/decisions/0014-skip-schedule.md).
constexpr double kGrowth = 2;

// The farthest that two runs may be apart.
constexpr int64_t kMaxRunDistance = 16;

// The num_runs steps to run, ascending, step 0 first; the mean over traces of the same T is what is
// made small. `reuse`: kExtrapolate, or one of the others, which count as kPrediction. num_runs is
// raised to what kMaxRunDistance needs, and to T at most. restart: the step at which another model
// takes over; 0: none does. Throws kInvalidArgument without traces, or when their numbers of steps
// differ. Time grows with T num_runs, milliseconds at T = 50.
std::vector<int64_t> ChooseRuns(std::span<const PredictionTrace> traces, int64_t num_runs,
                                StepReuse reuse, int64_t restart = 0);

}  // namespace tamias
