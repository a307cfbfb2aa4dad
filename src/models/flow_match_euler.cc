// The flow-matching Euler scheduler: see the header.
#include "models/flow_match_euler.h"

#include <cmath>

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

// In fp32, operation by operation as NumPy does it there: diffusers' sigmas to the last bit or two.
float ShiftSigma(const FlowMatchEulerConfig& config, float mu, float sigma) {
  if (!config.use_dynamic_shifting) {
    const auto shift = static_cast<float>(config.shift);
    return shift * sigma / (1.0f + (shift - 1.0f) * sigma);
  }
  const float strength = config.time_shift_type == TimeShift::kExponential ? std::exp(mu) : mu;
  return strength / (strength + (1.0f / sigma - 1.0f));
}

// Stretches 1 - sigma so that the last sigma becomes `terminal`; a lone sigma of 1 stays.
void StretchToTerminal(float terminal, std::vector<float>& sigmas) {
  const float scale = (1.0f - sigmas.back()) / (1.0f - terminal);
  if (scale <= 0) return;
  for (float& sigma : sigmas) sigma = 1.0f - (1.0f - sigma) / scale;
}

void RefuseTrue(const JsonObject& json, std::string_view field) {
  if (json.BoolOr(field, false)) {
    Fail(ErrorCode::kUnsupported, "{}: field '{}': true is not supported", json.source(), field);
  }
}

}  // namespace

FlowMatchEulerConfig FlowMatchEulerConfig::FromJson(const JsonObject& json) {
  for (const std::string_view field : {"use_karras_sigmas", "use_exponential_sigmas",
                                       "use_beta_sigmas", "stochastic_sampling", "invert_sigmas"}) {
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

FlowMatchEuler::FlowMatchEuler(const FlowMatchEulerConfig& config, int num_steps,
                               int64_t image_tokens)
    : num_train_timesteps_(static_cast<float>(config.num_train_timesteps)) {
  if (num_steps < 1 || image_tokens < 1) {
    Fail(ErrorCode::kInvalidArgument,
         "flow-match scheduler: expected at least one step and one token, found {} and {}",
         num_steps, image_tokens);
  }
  const float mu = ShiftForTokens(config, image_tokens);
  if (config.use_dynamic_shifting && config.time_shift_type == TimeShift::kLinear && mu <= 0) {
    Fail(ErrorCode::kInvalidArgument,
         "flow-match scheduler: linear shift: expected mu > 0, found {} at {} tokens", mu,
         image_tokens);
  }
  const double last = 1.0 / num_steps;
  const double stride = num_steps > 1 ? (last - 1.0) / (num_steps - 1) : 0;
  for (int step = 0; step < num_steps; ++step) {
    const double sigma = step > 0 && step == num_steps - 1 ? last : 1.0 + stride * step;
    sigmas_.push_back(ShiftSigma(config, mu, static_cast<float>(sigma)));
  }
  if (config.shift_terminal) {
    StretchToTerminal(static_cast<float>(*config.shift_terminal), sigmas_);
  }
  sigmas_.push_back(0);
}

void FlowMatchEuler::Step(Context& context, int step, ConstTensorView prediction,
                          TensorView sample) const {
  TAMIAS_CHECK(step >= 0 && step < num_steps());
  Axpy(context, sigma(step + 1) - sigma(step), prediction, sample);
}

}  // namespace tamias
