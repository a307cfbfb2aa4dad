// UniPC multistep: see the header.
#include "models/unipc_multistep.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "io/json.h"
#include "ops/elementwise.h"

namespace tamias {
namespace {

constexpr int kOrder = 2;

[[noreturn]] void FailUnsupported(const JsonObject& json, std::string_view field,
                                  std::string_view supported) {
  Fail(ErrorCode::kUnsupported, "{}: field '{}': only {} is supported", json.source(), field,
       supported);
}

void RequireBool(const JsonObject& json, std::string_view field, bool fallback, bool supported) {
  if (json.BoolOr(field, fallback) != supported) {
    FailUnsupported(json, field, supported ? "true" : "false");
  }
}

void RequireString(const JsonObject& json, std::string_view field, std::string fallback,
                   std::string_view supported) {
  if (json.StringOr(field, std::move(fallback)) != supported) {
    FailUnsupported(json, field, fmt::format("\"{}\"", supported));
  }
}

void RequireAbsent(const JsonObject& json, std::string_view field) {
  if (json.Has(field)) FailUnsupported(json, field, "null");
}

// n + 1 levels: linspace(1, 1 / num_train_timesteps, n + 1) without its last, shifted, then 0. The
// first stays a millionth below 1, where lambda is infinite.
std::vector<double> ShiftedSigmas(const UniPcMultistepConfig& config, int num_steps) {
  constexpr double kDistanceFromOne = 1e-6;
  if (num_steps < 1) {
    Fail(ErrorCode::kInvalidArgument, "UniPC scheduler: expected at least one step, found {}",
         num_steps);
  }
  std::vector<double> sigmas =
      Linspace(1.0, 1.0 / static_cast<double>(config.num_train_timesteps), num_steps + 1);
  sigmas.pop_back();
  const double shift = config.flow_shift;
  for (double& sigma : sigmas) sigma = shift * sigma / (1 + (shift - 1) * sigma);
  if (std::abs(sigmas.front() - 1) < kDistanceFromOne) sigmas.front() -= kDistanceFromOne;
  return sigmas;
}

std::vector<float> Levels(const UniPcMultistepConfig& config, int num_steps) {
  const std::vector<double> sigmas = ShiftedSigmas(config, num_steps);
  std::vector<float> levels(sigmas.begin(), sigmas.end());
  levels.push_back(0);
  return levels;
}

// Whole numbers, rounded down: what diffusers tells the model.
std::vector<float> Timesteps(const UniPcMultistepConfig& config, int num_steps) {
  std::vector<float> timesteps;
  for (const double sigma : ShiftedSigmas(config, num_steps)) {
    timesteps.push_back(
        static_cast<float>(std::floor(sigma * static_cast<double>(config.num_train_timesteps))));
  }
  return timesteps;
}

void AddScaled(Context& context, double factor, ConstTensorView x, TensorView y) {
  Axpy(context, static_cast<float>(factor), x, y);
}

}  // namespace

UniPcMultistepConfig UniPcMultistepConfig::FromJson(const JsonObject& json) {
  RequireString(json, "prediction_type", "epsilon", "flow_prediction");
  RequireString(json, "solver_type", "bh2", "bh2");
  RequireString(json, "final_sigmas_type", "zero", "zero");
  RequireBool(json, "use_flow_sigmas", false, true);
  RequireBool(json, "predict_x0", true, true);
  RequireBool(json, "lower_order_final", true, true);
  for (const std::string_view field : {"thresholding", "use_karras_sigmas", "use_beta_sigmas",
                                       "use_exponential_sigmas", "use_dynamic_shifting"}) {
    RequireBool(json, field, false, false);
  }
  RequireAbsent(json, "solver_p");
  RequireAbsent(json, "shift_terminal");
  if (json.IntOr("solver_order", kOrder) != kOrder) FailUnsupported(json, "solver_order", "2");
  if (!json.IntArrayOr("disable_corrector", {}).empty()) {
    FailUnsupported(json, "disable_corrector", "[]");
  }
  UniPcMultistepConfig config;
  config.num_train_timesteps =
      json.IntOr("num_train_timesteps", config.num_train_timesteps, {2, 1'000'000});
  config.flow_shift = json.FloatOr("flow_shift", config.flow_shift, {1e-6, 1e6});
  return config;
}

UniPcMultistep::UniPcMultistep(const UniPcMultistepConfig& config, int num_steps)
    : FlowScheduler(Levels(config, num_steps), Timesteps(config, num_steps)) {}

size_t UniPcMultistep::HistoryBytes(int64_t elements) const {
  return (predictions_.size() + 1) * static_cast<size_t>(elements) * sizeof(float);
}

double UniPcMultistep::Lambda(int step) const {
  const double level = sigma(step);
  return std::log1p(-level) - std::log(level);
}

int UniPcMultistep::Order(int step) const {
  return std::min({kOrder, step + 1, num_steps() - step});
}

void UniPcMultistep::Step(Context& context, int step, ConstTensorView prediction,
                          TensorView sample) {
  TAMIAS_CHECK(step == next_step_ && step < num_steps());
  if (step == 0) {
    for (Tensor& kept : predictions_) kept = Tensor(sample.shape(), DType::kF32);
    last_sample_ = Tensor(sample.shape(), DType::kF32);
  }
  ++next_step_;
  const TensorView x0 = predictions_[static_cast<size_t>(step) % predictions_.size()];
  ScaleShift(context, sample, 1, 0, x0);
  Axpy(context, -sigma(step), prediction, x0);
  if (step > 0) Correct(context, step, x0, sample);
  ScaleShift(context, sample, 1, 0, last_sample_);
  Predict(context, step, sample);
}

void UniPcMultistep::Correct(Context& context, int step, ConstTensorView x0,
                             TensorView sample) const {
  const int from = step - 1;
  const ConstTensorView m0 = predictions_[static_cast<size_t>(from) % predictions_.size()];
  const double alpha = 1.0 - sigma(step);
  const double minus_h = Lambda(from) - Lambda(step);
  const double b_h = std::expm1(minus_h);

  // rho weighs the newest difference x0 - m0, older_rho the one before, (m1 - m0) / r.
  double rho = 0.5;
  double older_weight = 0;
  if (Order(from) == 2) {
    const double r = (Lambda(from) - Lambda(from - 1)) / minus_h;
    const double phi_1 = b_h / minus_h - 1;
    const double phi_2 = phi_1 / minus_h - 0.5;
    const double older_rho = (2 * phi_2 - phi_1) / b_h / (r - 1);
    rho = phi_1 / b_h - older_rho;
    older_weight = older_rho / r;
  }
  ScaleShift(context, last_sample_, sigma(step) / sigma(from), 0, sample);
  AddScaled(context, -alpha * b_h * (1 - rho - older_weight), m0, sample);
  AddScaled(context, -alpha * b_h * rho, x0, sample);
  if (older_weight != 0) {
    const ConstTensorView m1 = predictions_[static_cast<size_t>(from - 1) % predictions_.size()];
    AddScaled(context, -alpha * b_h * older_weight, m1, sample);
  }
}

void UniPcMultistep::Predict(Context& context, int step, TensorView sample) const {
  const ConstTensorView m0 = predictions_[static_cast<size_t>(step) % predictions_.size()];
  const double alpha = 1.0 - sigma(step + 1);
  const double minus_h = Lambda(step) - Lambda(step + 1);
  const double b_h = std::expm1(minus_h);  // -1 at the end, where lambda is infinite
  ScaleShift(context, sample, sigma(step + 1) / sigma(step), 0, sample);
  if (Order(step) == 1) {
    AddScaled(context, -alpha * b_h, m0, sample);
    return;
  }
  const ConstTensorView m1 = predictions_[static_cast<size_t>(step - 1) % predictions_.size()];
  const double older_weight = 0.5 * minus_h / (Lambda(step) - Lambda(step - 1));
  AddScaled(context, -alpha * b_h * (1 - older_weight), m0, sample);
  AddScaled(context, -alpha * b_h * older_weight, m1, sample);
}

}  // namespace tamias
