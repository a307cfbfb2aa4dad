// The flow-matching Heun scheduler: see the header.
#include "models/schedulers/flow_match_heun.h"

#include "base/check.h"
#include "io/json.h"
#include "models/schedulers/flow_match_euler.h"
#include "tamias/ops/elementwise.h"

namespace tamias {
namespace {

// Every level twice, but the first and the end once: 2 n sigmas, 2 n - 1 timesteps.
FlowSchedule MakeSchedule(const FlowMatchHeunConfig& config, int num_steps) {
  FlowSchedule schedule;
  for (const double level :
       TrainingRangeSigmas(config.num_train_timesteps, config.shift, num_steps)) {
    const auto sigma = static_cast<float>(ShiftSigma(config.shift, level));
    const int times = schedule.sigmas.empty() ? 1 : 2;
    schedule.sigmas.insert(schedule.sigmas.end(), times, sigma);
    schedule.timesteps.insert(schedule.timesteps.end(), times,
                              sigma * static_cast<float>(config.num_train_timesteps));
  }
  schedule.sigmas.push_back(0);
  return schedule;
}

}  // namespace

FlowMatchHeunConfig FlowMatchHeunConfig::FromJson(const JsonObject& json) {
  FlowMatchHeunConfig config;
  config.num_train_timesteps =
      json.IntOr("num_train_timesteps", config.num_train_timesteps, {1, 1'000'000});
  config.shift = json.FloatOr("shift", config.shift, {1e-6, 1e6});
  return config;
}

FlowMatchHeun::FlowMatchHeun(const FlowMatchHeunConfig& config, int num_steps)
    : FlowScheduler(MakeSchedule(config, num_steps)) {}

void FlowMatchHeun::Step(Context& context, int step, ConstTensorView prediction,
                         TensorView sample) {
  TAMIAS_CHECK(step == next_step_ && step < num_steps());
  ++next_step_;
  if (step == 0) {
    velocity_ = Tensor(sample.shape(), DType::kF32);
    sample_ = Tensor(sample.shape(), DType::kF32);
  }
  if (step % 2 == 0) {
    ScaleShift(context, prediction, 1, 0, velocity_);
    ScaleShift(context, sample, 1, 0, sample_);
    Axpy(context, sigma(step + 1) - sigma(step), prediction, sample);
    return;
  }
  const float half = 0.5f * (sigma(step) - sigma(step - 1));
  ScaleShift(context, sample_, 1, 0, sample);
  Axpy(context, half, velocity_, sample);
  Axpy(context, half, prediction, sample);
}

size_t FlowMatchHeun::HistoryBytes(int64_t elements) const {
  return 2 * static_cast<size_t>(elements) * sizeof(float);
}

SchedulerMaker ReadFlowMatchHeun(const JsonObject& json,
                                 const SchedulerConventions& /*conventions*/) {
  const FlowMatchHeunConfig config = FlowMatchHeunConfig::FromJson(json);
  return [config](const ScheduleRequest& request) {
    return std::make_unique<FlowMatchHeun>(config, request.num_steps);
  };
}

}  // namespace tamias
