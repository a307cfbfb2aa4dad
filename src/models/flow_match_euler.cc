// The flow-matching Euler scheduler: see the header.
#include "models/flow_match_euler.h"

#include <cmath>
#include <utility>

#include "io/json.h"
#include "ops/elementwise.h"

namespace tamias {
namespace {

// mu, linear in the number of image tokens (FluxPipeline's calculate_shift).
float ShiftForTokens(const FlowMatchEulerConfig& config, int64_t image_tokens) {
  const double slope = (config.max_shift - config.base_shift) /
                       static_cast<double>(config.max_image_seq_len - config.base_image_seq_len);
  const double offset = config.base_shift - slope * static_cast<double>(config.base_image_seq_len);
  return static_cast<float>(static_cast<double>(image_tokens) * slope + offset);
}

float ShiftStatically(float shift, float sigma) {
  return shift * sigma / (1.0f + (shift - 1.0f) * sigma);
}

// What dynamic shifting multiplies the odds of noise with.
float DynamicStrength(const FlowMatchEulerConfig& config, std::optional<int64_t> image_tokens) {
  if (!image_tokens) {
    Fail(ErrorCode::kUnsupported,
         "flow-match scheduler: field 'use_dynamic_shifting': true is not supported in this "
         "pipeline");
  }
  const float mu = ShiftForTokens(config, *image_tokens);
  if (config.time_shift_type == TimeShift::kExponential) return std::exp(mu);
  if (mu <= 0) {
    Fail(ErrorCode::kInvalidArgument,
         "flow-match scheduler: linear shift: expected mu > 0, found {} at {} tokens", mu,
         *image_tokens);
  }
  return mu;
}

// Stretches 1 - sigma so that the last sigma becomes `terminal`; a lone sigma of 1 stays.
void StretchToTerminal(float terminal, std::vector<float>& sigmas) {
  const float scale = (1.0f - sigmas.back()) / (1.0f - terminal);
  if (scale <= 0) return;
  for (float& sigma : sigmas) sigma = 1.0f - (1.0f - sigma) / scale;
}

// In fp32, operation by operation as NumPy does it there: diffusers' sigmas to the last bit or two.
std::vector<float> ShiftSigmas(const FlowMatchEulerConfig& config,
                               const std::vector<double>& sigmas,
                               std::optional<int64_t> image_tokens) {
  if (image_tokens && *image_tokens < 1) {
    Fail(ErrorCode::kInvalidArgument, "flow-match scheduler: expected at least one token, found {}",
         *image_tokens);
  }
  std::vector<float> shifted(sigmas.begin(), sigmas.end());
  if (config.use_dynamic_shifting) {
    const float strength = DynamicStrength(config, image_tokens);
    for (float& sigma : shifted) sigma = strength / (strength + (1.0f / sigma - 1.0f));
  } else {
    const auto shift = static_cast<float>(config.shift);
    for (float& sigma : shifted) sigma = ShiftStatically(shift, sigma);
  }
  if (config.shift_terminal) {
    StretchToTerminal(static_cast<float>(*config.shift_terminal), shifted);
  }
  return shifted;
}

// All sigmas with the one after the last step.
std::vector<float> WithEnd(const FlowMatchEulerConfig& config, std::vector<float> shifted) {
  if (config.invert_sigmas) {
    for (float& sigma : shifted) sigma = 1.0f - sigma;
  }
  shifted.push_back(config.invert_sigmas ? 1.0f : 0.0f);
  return shifted;
}

std::vector<float> Timesteps(const FlowMatchEulerConfig& config, std::vector<float> shifted) {
  for (float& sigma : shifted) {
    sigma = (config.invert_sigmas ? 1.0f - sigma : sigma) *
            static_cast<float>(config.num_train_timesteps);
  }
  return shifted;
}

void RefuseTrue(const JsonObject& json, std::string_view field) {
  if (json.BoolOr(field, false)) {
    Fail(ErrorCode::kUnsupported, "{}: field '{}': true is not supported", json.source(), field);
  }
}

}  // namespace

FlowMatchEulerConfig FlowMatchEulerConfig::FromJson(const JsonObject& json) {
  for (const std::string_view field :
       {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"}) {
    RefuseTrue(json, field);
  }
  FlowMatchEulerConfig config;
  config.num_train_timesteps =
      json.IntOr("num_train_timesteps", config.num_train_timesteps, {1, 1'000'000});
  config.shift = json.FloatOr("shift", config.shift, {1e-6, 1e6});
  config.use_dynamic_shifting = json.BoolOr("use_dynamic_shifting", config.use_dynamic_shifting);
  config.base_shift = json.FloatOr("base_shift", config.base_shift, {-100, 100});
  config.max_shift = json.FloatOr("max_shift", config.max_shift, {-100, 100});
  config.base_image_seq_len =
      json.IntOr("base_image_seq_len", config.base_image_seq_len, {1, int64_t{1} << 40});
  config.max_image_seq_len =
      json.IntOr("max_image_seq_len", config.max_image_seq_len, {1, int64_t{1} << 40});
  if (config.max_image_seq_len == config.base_image_seq_len) {
    json.FailField("max_image_seq_len", "expected a value other than base_image_seq_len");
  }
  config.invert_sigmas = json.BoolOr("invert_sigmas", config.invert_sigmas);
  const double terminal = json.FloatOr("shift_terminal", 0, {0, 0.999});
  if (terminal > 0) config.shift_terminal = terminal;
  const std::string type = json.StringOr("time_shift_type", "exponential");
  if (type == "linear") {
    config.time_shift_type = TimeShift::kLinear;
  } else if (type != "exponential") {
    json.FailField("time_shift_type",
                   "expected \"exponential\" or \"linear\", found \"" + type + "\"");
  }
  return config;
}

std::vector<double> EvenSigmas(int num_steps) { return Linspace(1.0, 1.0 / num_steps, num_steps); }

std::vector<double> TrainingRangeSigmas(const FlowMatchEulerConfig& config, int num_steps) {
  const float smallest = 1.0f / static_cast<float>(config.num_train_timesteps);
  if (config.use_dynamic_shifting) return Linspace(1.0, smallest, num_steps);
  const auto shift = static_cast<float>(config.shift);
  return Linspace(1.0, ShiftStatically(shift, smallest), num_steps);
}

FlowMatchEuler::FlowMatchEuler(const FlowMatchEulerConfig& config,
                               const std::vector<double>& sigmas,
                               std::optional<int64_t> image_tokens)
    : FlowMatchEuler(config, Shifted{ShiftSigmas(config, sigmas, image_tokens)}) {}

FlowMatchEuler::FlowMatchEuler(const FlowMatchEulerConfig& config, int num_steps,
                               int64_t image_tokens)
    : FlowMatchEuler(config, EvenSigmas(num_steps), image_tokens) {}

FlowMatchEuler::FlowMatchEuler(const FlowMatchEulerConfig& config, const Shifted& shifted)
    : FlowScheduler(WithEnd(config, shifted.sigmas), Timesteps(config, shifted.sigmas)) {}

void FlowMatchEuler::Step(Context& context, int step, ConstTensorView prediction,
                          TensorView sample) {
  TAMIAS_CHECK(step >= 0 && step < num_steps());
  Axpy(context, sigma(step + 1) - sigma(step), prediction, sample);
}

}  // namespace tamias
