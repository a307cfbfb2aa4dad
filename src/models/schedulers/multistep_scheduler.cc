// Multistep solvers: see the header.
#include "models/schedulers/multistep_scheduler.h"

#include <cmath>
#include <string>

#include "base/check.h"
#include "io/json.h"
#include "models/schedulers/scheduler_fields.h"
#include "tamias/ops/elementwise.h"

namespace tamias {
namespace {

FlowSchedule MakeSchedule(const MultistepConfig& config, const std::vector<double>& levels,
                          double last_level) {
  FlowSchedule schedule;
  for (const double level : levels) {
    schedule.sigmas.push_back(static_cast<float>(level));
    schedule.timesteps.push_back(
        static_cast<float>(std::floor(level * static_cast<double>(config.num_train_timesteps))));
  }
  schedule.sigmas.push_back(static_cast<float>(last_level));
  return schedule;
}

}  // namespace

MultistepConfig MultistepConfig::FromJson(const JsonObject& json) {
  RequireString(json, "prediction_type", "epsilon", "flow_prediction");
  RequireBool(json, "use_flow_sigmas", false, true);
  for (const char* field :
       {"thresholding", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"}) {
    RequireBool(json, field, false, false);
  }
  MultistepConfig config;
  config.num_train_timesteps =
      json.IntOr("num_train_timesteps", config.num_train_timesteps, {2, 1'000'000});
  config.flow_shift = json.FloatOr("flow_shift", config.flow_shift, {1e-6, 1e6});
  config.solver_order = static_cast<int>(json.IntOr("solver_order", config.solver_order, {1, 3}));
  config.lower_order_final = json.BoolOr("lower_order_final", config.lower_order_final);
  const std::string last = json.StringOr("final_sigmas_type", "zero");
  if (last != "zero" && last != "sigma_min") {
    json.FailField("final_sigmas_type",
                   "expected \"zero\" or \"sigma_min\", found \"" + last + "\"");
  }
  if (last == "sigma_min") config.final_sigma = FinalSigma::kSigmaMin;
  return config;
}

double MultistepConfig::ShiftFor(const ScheduleRequest& request) const {
  if (!dynamic_shift) return flow_shift;
  TAMIAS_CHECK(request.image_tokens.has_value());
  return dynamic_shift->Factor(*request.image_tokens);
}

MultistepScheduler::MultistepScheduler(const MultistepConfig& config,
                                       const std::vector<double>& levels, double last_level,
                                       int num_kept, NoiseSource noise)
    : FlowScheduler(MakeSchedule(config, levels, last_level), std::move(noise)),
      data_predictions_(static_cast<size_t>(num_kept)) {}

size_t MultistepScheduler::HistoryBytes(int64_t elements) const {
  return data_predictions_.size() * static_cast<size_t>(elements) * sizeof(float);
}

double MultistepScheduler::Lambda(int step) const {
  const double level = sigma(step);
  return std::log1p(-level) - std::log(level);
}

void MultistepScheduler::Keep(Context& context, int step, ConstTensorView prediction,
                              ConstTensorView sample) {
  TAMIAS_CHECK(step == next_step_ && step < num_steps());
  ++next_step_;
  if (step == 0) {
    for (Tensor& kept : data_predictions_) kept = Tensor(sample.shape(), DType::kF32);
  }
  const TensorView x0 = data_predictions_[static_cast<size_t>(step) % data_predictions_.size()];
  ScaleShift(context, sample, 1, 0, x0);
  Axpy(context, -sigma(step), prediction, x0);
}

void MultistepScheduler::Combine(Context& context, double factor, ConstTensorView from, int newest,
                                 std::span<const double> weights, TensorView to) const {
  ScaleShift(context, from, static_cast<float>(factor), 0, to);
  for (size_t j = 0; j < weights.size(); ++j) {
    const size_t step = static_cast<size_t>(newest) - j;
    Axpy(context, static_cast<float>(weights[j]),
         data_predictions_[step % data_predictions_.size()], to);
  }
}

}  // namespace tamias
