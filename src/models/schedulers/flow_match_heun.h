// The flow-matching Heun scheduler (diffusers' FlowMatchHeunDiscreteScheduler): of second order,
// with two calls of the model for each of its n noise levels but the last, 2 n - 1 in all. A first
// call at sigma_i makes an Euler step to sigma_{i+1}; a second one there replaces it by the step
// along the mean of both velocities.
#pragma once

#include <cstdint>

#include "models/schedulers/flow_scheduler.h"
#include "models/schedulers/scheduler_conventions.h"

namespace tamias {

struct FlowMatchHeunConfig {
  int64_t num_train_timesteps = 1000;
  double shift = 1.0;

  static FlowMatchHeunConfig FromJson(const JsonObject& json);
};

class FlowMatchHeun final : public FlowScheduler {
 public:
  // Throws kInvalidArgument when num_steps < 1. num_steps() is 2 num_steps - 1.
  FlowMatchHeun(const FlowMatchHeunConfig& config, int num_steps);

  // An even step is a first call, an odd one the second of the step before it: steps come in order,
  // from 0.
  void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) override;
  size_t HistoryBytes(int64_t elements) const override;

 private:
  Tensor velocity_;  // of the last first call, and the sample it was made for
  Tensor sample_;
  int next_step_ = 0;
};

SchedulerMaker ReadFlowMatchHeun(const JsonObject& json, const SchedulerConventions& conventions);

}  // namespace tamias
