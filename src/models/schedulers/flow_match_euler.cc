// The flow-matching Euler scheduler: see the header.
#include "models/schedulers/flow_match_euler.h"

#include <cmath>
#include <utility>

#include "base/check.h"
#include "io/json.h"
#include "models/schedulers/scheduler_fields.h"
#include "tamias/ops/elementwise.h"

namespace tamias {
namespace {

// Levels between the same ends (or the config's) that are even in map(sigma).
template <typename Map, typename Inverse>
void Respace(const FlowMatchEulerConfig& config, const Map& map, const Inverse& inverse,
             std::vector<float>& sigmas) {
  const double first = map(config.sigma_max.value_or(sigmas.front()));
  const double last = map(config.sigma_min.value_or(sigmas.back()));
  const std::vector<double> even = Linspace(first, last, static_cast<int>(sigmas.size()));
  for (size_t i = 0; i < sigmas.size(); ++i) sigmas[i] = static_cast<float>(inverse(even[i]));
}

// In fp32, operation by operation as NumPy does it there: diffusers' sigmas to the last bit or two.
std::vector<float> ShiftSigmas(const FlowMatchEulerConfig& config, const ScheduleRequest& request) {
  const std::vector<double> given =
      request.sigmas.empty()
          ? TrainingRangeSigmas(config.num_train_timesteps,
                                config.dynamic_shift ? 1.0 : config.shift, request.num_steps)
          : request.sigmas;
  std::vector<float> sigmas(given.begin(), given.end());
  if (config.dynamic_shift) {
    TAMIAS_CHECK(request.image_tokens.has_value());
    const auto factor = static_cast<float>(config.dynamic_shift->Factor(*request.image_tokens));
    for (float& sigma : sigmas) sigma = factor / (factor + (1.0f / sigma - 1.0f));
  } else {
    const auto shift = static_cast<float>(config.shift);
    for (float& sigma : sigmas) sigma = shift * sigma / (1.0f + (shift - 1.0f) * sigma);
  }
  if (config.shift_terminal) {
    StretchToTerminal(static_cast<float>(*config.shift_terminal), sigmas);
  }
  constexpr double kRho = 7;
  if (config.spacing == SigmaSpacing::kKarras) {
    Respace(
        config, [](double sigma) { return std::pow(sigma, 1 / kRho); },
        [](double x) { return std::pow(x, kRho); }, sigmas);
  } else if (config.spacing == SigmaSpacing::kExponential) {
    Respace(
        config, [](double sigma) { return std::log(sigma); }, [](double x) { return std::exp(x); },
        sigmas);
  }
  return sigmas;
}

FlowSchedule MakeSchedule(const FlowMatchEulerConfig& config, const ScheduleRequest& request) {
  FlowSchedule schedule;
  for (const float sigma : ShiftSigmas(config, request)) {
    const float level = config.invert_sigmas ? 1.0f - sigma : sigma;
    schedule.sigmas.push_back(level);
    schedule.timesteps.push_back(level * static_cast<float>(config.num_train_timesteps));
  }
  schedule.sigmas.push_back(config.invert_sigmas ? 1.0f : 0.0f);
  return schedule;
}

SigmaSpacing ReadSpacing(const JsonObject& json) {
  RequireBool(json, "use_beta_sigmas", false, false);
  const bool is_karras = json.BoolOr("use_karras_sigmas", false);
  const bool is_exponential = json.BoolOr("use_exponential_sigmas", false);
  if (is_karras && is_exponential) {
    json.FailField("use_exponential_sigmas", "expected false beside use_karras_sigmas");
  }
  if (is_karras) return SigmaSpacing::kKarras;
  return is_exponential ? SigmaSpacing::kExponential : SigmaSpacing::kShifted;
}

}  // namespace

FlowMatchEulerConfig FlowMatchEulerConfig::FromJson(const JsonObject& json,
                                                    const SchedulerConventions& conventions) {
  FlowMatchEulerConfig config;
  config.num_train_timesteps =
      json.IntOr("num_train_timesteps", config.num_train_timesteps, {1, 1'000'000});
  config.shift = json.FloatOr("shift", config.shift, {1e-6, 1e6});
  const DynamicShift shift = DynamicShift::FromJson(json);  // checks it, used or not
  if (json.BoolOr("use_dynamic_shifting", false)) {
    if (!conventions.shifts_by_tokens) {
      FailUnsupported(json, "use_dynamic_shifting", "false in this pipeline");
    }
    config.dynamic_shift = shift;
  }
  const double terminal = json.FloatOr("shift_terminal", 0, {0, 0.999});
  if (terminal > 0) config.shift_terminal = terminal;
  config.spacing = ReadSpacing(json);
  constexpr FloatRange kSigmas = {1e-9, 1e6};
  if (json.Has("sigma_min")) config.sigma_min = json.Float("sigma_min", kSigmas);
  if (json.Has("sigma_max")) config.sigma_max = json.Float("sigma_max", kSigmas);
  config.invert_sigmas = json.BoolOr("invert_sigmas", config.invert_sigmas);
  return config;
}

std::vector<double> EvenSigmas(int num_steps) { return Linspace(1.0, 1.0 / num_steps, num_steps); }

std::vector<double> EvenSigmasToZero(int num_steps) {
  CheckNumSteps(num_steps);
  std::vector<double> sigmas = Linspace(1.0, 0.0, num_steps + 1);
  sigmas.pop_back();
  return sigmas;
}

std::vector<double> TrainingRangeSigmas(int64_t num_train_timesteps, double shift, int num_steps) {
  const float smallest = 1.0f / static_cast<float>(num_train_timesteps);
  const auto by = static_cast<float>(shift);
  return Linspace(1.0, by * smallest / (1.0f + (by - 1.0f) * smallest), num_steps);
}

FlowMatchEuler::FlowMatchEuler(const FlowMatchEulerConfig& config, const ScheduleRequest& request)
    : FlowScheduler(MakeSchedule(config, request), request.noise),
      is_stochastic_(config.stochastic_sampling) {}

void FlowMatchEuler::Step(Context& context, int step, ConstTensorView prediction,
                          TensorView sample) {
  TAMIAS_CHECK(step >= 0 && step < num_steps());
  if (is_stochastic_) {
    RenewNoise(context, step, prediction, sample);
  } else {
    Axpy(context, sigma(step + 1) - sigma(step), prediction, sample);
  }
}

size_t FlowMatchEuler::HistoryBytes(int64_t elements) const {
  return is_stochastic_ ? static_cast<size_t>(elements) * sizeof(float) : 0;
}

SchedulerMaker ReadFlowMatchEuler(const JsonObject& json, const SchedulerConventions& conventions) {
  FlowMatchEulerConfig config = FlowMatchEulerConfig::FromJson(json, conventions);
  config.stochastic_sampling = json.BoolOr("stochastic_sampling", false);
  if (config.stochastic_sampling && config.invert_sigmas) {
    // The last level is 1 then: nothing but noise.
    FailUnsupported(json, "stochastic_sampling", "false beside invert_sigmas");
  }
  return [config](const ScheduleRequest& request) {
    return std::make_unique<FlowMatchEuler>(config, request);
  };
}

}  // namespace tamias
