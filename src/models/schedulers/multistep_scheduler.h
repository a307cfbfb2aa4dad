// What the multistep solvers of flow matching share (UniPC, DPM-Solver++): they step in
// lambda = log((1 - sigma) / sigma) along a polynomial through the last data predictions
// x0 = x - sigma v, so that every update is a weighted sum of the sample and of those.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/schedulers/dynamic_shift.h"
#include "models/schedulers/flow_scheduler.h"
#include "models/schedulers/scheduler_conventions.h"

namespace tamias {

enum class FinalSigma {
  kZero,      // "zero"
  kSigmaMin,  // "sigma_min": a level that the class chooses
};

struct MultistepConfig {
  int64_t num_train_timesteps = 1000;
  double flow_shift = 1.0;                    // used without dynamic shifting
  std::optional<DynamicShift> dynamic_shift;  // by the number of image tokens
  int solver_order = 2;                       // 1 to 3
  bool lower_order_final = true;
  FinalSigma final_sigma = FinalSigma::kZero;

  // The fields that both classes read, but for dynamic_shift. Refuses settings other than flow
  // prediction over flow sigmas, and their other spacings.
  static MultistepConfig FromJson(const JsonObject& json);
  // What the odds of noise are multiplied by for a request.
  double ShiftFor(const ScheduleRequest& request) const;
};

class MultistepScheduler : public FlowScheduler {
 public:
  size_t HistoryBytes(int64_t elements) const override;

 protected:
  // levels: sigmas before each step; the timesteps are these in whole numbers, rounded down, as
  // diffusers tells the model. num_kept: data predictions that the solver looks at.
  MultistepScheduler(const MultistepConfig& config, const std::vector<double>& levels,
                     double last_level, int num_kept, NoiseSource noise);

  // lambda before step `step`; infinite at sigma 0.
  double Lambda(int step) const;
  // 1 - sigma before step `step`.
  double Alpha(int step) const { return 1.0 - sigma(step); }

  // Checks that steps come in order, and keeps the data prediction of this one.
  void Keep(Context& context, int step, ConstTensorView prediction, ConstTensorView sample);
  // to = factor from + sum over j of weights[j] x0(newest - j), where x0(i) is the data prediction
  // of step i. `to` may be `from`.
  void Combine(Context& context, double factor, ConstTensorView from, int newest,
               std::span<const double> weights, TensorView to) const;

 private:
  std::vector<Tensor> data_predictions_;  // that of step i lies at i % num_kept
  int next_step_ = 0;
};

}  // namespace tamias
