// UniPC multistep: see the header.
#include "models/schedulers/unipc_multistep.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "io/json.h"
#include "models/schedulers/scheduler_fields.h"
#include "tamias/ops/elementwise.h"

namespace tamias {
namespace {

// n levels, shifted: those given, or linspace(1, 1 / num_train_timesteps, n + 1) without its last.
// The first stays a millionth below 1, where lambda is infinite. Operation by operation as NumPy,
// since timesteps are rounded.
std::vector<double> ShiftedSigmas(const UniPcMultistepConfig& config,
                                  const ScheduleRequest& request) {
  constexpr double kDistanceFromOne = 1e-6;
  std::vector<double> sigmas = request.sigmas;
  if (sigmas.empty()) {
    CheckNumSteps(request.num_steps);
    sigmas = Linspace(1.0, 1.0 / static_cast<double>(config.multistep.num_train_timesteps),
                      request.num_steps + 1);
    sigmas.pop_back();
  }
  const double shift = config.multistep.ShiftFor(request);
  const bool is_dynamic = config.multistep.dynamic_shift.has_value();
  for (double& sigma : sigmas) {
    sigma = is_dynamic ? shift / (shift + (1 / sigma - 1)) : ShiftSigma(shift, sigma);
  }
  if (config.shift_terminal) StretchToTerminal(*config.shift_terminal, sigmas);
  if (std::abs(sigmas.front() - 1) < kDistanceFromOne) sigmas.front() -= kDistanceFromOne;
  return sigmas;
}

double LastSigma(const UniPcMultistepConfig& config, const std::vector<double>& sigmas) {
  return config.multistep.final_sigma == FinalSigma::kZero ? 0 : sigmas.back();
}

// The x with sum over j of nodes[j]^i x[j] = moments[i] for i = 0 ... n - 1 (Bjoerck and Pereyra
// 1970): n^2 operations, and exact where eliminating a Vandermonde matrix loses digits.
std::vector<double> SolveVandermonde(const std::vector<double>& nodes,
                                     std::vector<double> moments) {
  const size_t n = nodes.size();
  for (size_t k = 0; k + 1 < n; ++k) {
    for (size_t i = n - 1; i > k; --i) moments[i] -= nodes[k] * moments[i - 1];
  }
  for (size_t k = n - 1; k-- > 0;) {
    for (size_t i = k + 1; i < n; ++i) moments[i] /= nodes[i] - nodes[i - k - 1];
    for (size_t i = k; i + 1 < n; ++i) moments[i] -= moments[i + 1];
  }
  return moments;
}

UniPcSolver ReadSolver(const JsonObject& json) {
  const std::string type = json.StringOr("solver_type", "bh2");
  if (type == "bh1") return UniPcSolver::kBh1;
  // diffusers takes the names of other classes' solvers for bh2.
  if (type == "bh2" || type == "midpoint" || type == "heun" || type == "logrho") {
    return UniPcSolver::kBh2;
  }
  json.FailField("solver_type", "expected \"bh1\" or \"bh2\", found \"" + type + "\"");
}

// Steps of infinite length, to sigma 0, and of none, at sigma_min, have a limit at order 1 of bh2.
void RefuseWithoutLimit(const JsonObject& json, const UniPcMultistepConfig& config) {
  const MultistepConfig& multistep = config.multistep;
  const bool ends_at_zero = multistep.final_sigma == FinalSigma::kZero;
  if (ends_at_zero && config.solver == UniPcSolver::kBh1) {
    FailUnsupported(json, "solver_type",
                    "\"bh2\" beside final_sigmas_type \"zero\" (\"bh1\" gives no numbers there)");
  }
  if (!multistep.lower_order_final && multistep.solver_order > (ends_at_zero ? 1 : 2)) {
    FailUnsupported(json, "lower_order_final",
                    "true beside this solver_order and final_sigmas_type (false gives no numbers)");
  }
}

}  // namespace

UniPcMultistepConfig UniPcMultistepConfig::FromJson(const JsonObject& json,
                                                    const SchedulerConventions& conventions) {
  UniPcMultistepConfig config;
  config.multistep = MultistepConfig::FromJson(json);
  RequireBool(json, "predict_x0", true, true);
  RequireAbsent(json, "solver_p");
  config.solver = ReadSolver(json);
  RefuseWithoutLimit(json, config);
  if (json.BoolOr("use_dynamic_shifting", false)) {
    if (!conventions.shifts_by_tokens) {
      FailUnsupported(json, "use_dynamic_shifting", "false in this pipeline");
    }
    config.multistep.dynamic_shift = DynamicShift::FromJson(json);
  }
  const double terminal = json.FloatOr("shift_terminal", 0, {0, 0.999});
  if (terminal > 0) config.shift_terminal = terminal;
  for (const int64_t step : json.IntArrayOr("disable_corrector", {})) {
    config.uncorrected_samples.insert(step + 1);
  }
  return config;
}

UniPcMultistep::UniPcMultistep(const UniPcMultistepConfig& config, const ScheduleRequest& request)
    : UniPcMultistep(config, ShiftedSigmas(config, request)) {}

UniPcMultistep::UniPcMultistep(const UniPcMultistepConfig& config,
                               const std::vector<double>& sigmas)
    : MultistepScheduler(config.multistep, sigmas, LastSigma(config, sigmas),
                         config.multistep.solver_order + 1, {}),
      config_(config) {}

size_t UniPcMultistep::HistoryBytes(int64_t elements) const {
  return MultistepScheduler::HistoryBytes(elements) + static_cast<size_t>(elements) * sizeof(float);
}

int UniPcMultistep::Order(int step) const {
  const MultistepConfig& config = config_.multistep;
  const int left = config.lower_order_final ? num_steps() - step : config.solver_order;
  return std::min({config.solver_order, step + 1, left});
}

std::vector<double> UniPcMultistep::Weights(int from, bool is_corrector) const {
  const int order = Order(from);
  const double minus_h = Lambda(from) - Lambda(from + 1);
  const double phi_1 = std::expm1(minus_h);  // -1 at the end, where lambda is infinite
  const double b_h = config_.solver == UniPcSolver::kBh1 ? minus_h : phi_1;
  // Differences (x0(from - i) - x0(from)) / nodes, then the newest one at node 1.
  std::vector<double> nodes;
  for (int i = 1; i < order; ++i) nodes.push_back((Lambda(from - i) - Lambda(from)) / -minus_h);
  if (is_corrector) nodes.push_back(1);
  std::vector<double> moments;
  double phi = phi_1 / minus_h - 1, factorial = 1;
  for (size_t i = 0; i < nodes.size(); ++i) {
    moments.push_back(phi * factorial / b_h);
    factorial *= static_cast<double>(i) + 2;
    phi = phi / minus_h - 1 / factorial;
  }
  // A single weight is taken for one half, with either B(h).
  const std::vector<double> rhos =
      nodes.size() < 2 ? std::vector{0.5} : SolveVandermonde(nodes, std::move(moments));

  const double alpha = Alpha(from + 1);
  std::vector<double> weights(static_cast<size_t>(order), 0.0);
  weights[0] = -alpha * phi_1;
  for (int i = 1; i < order; ++i) {
    const auto j = static_cast<size_t>(i);
    weights[j] = -alpha * b_h * rhos[j - 1] / nodes[j - 1];
    weights[0] -= weights[j];
  }
  if (is_corrector) {
    const double newest = -alpha * b_h * rhos.back();
    weights[0] -= newest;
    weights.insert(weights.begin(), newest);
  }
  return weights;
}

void UniPcMultistep::Step(Context& context, int step, ConstTensorView prediction,
                          TensorView sample) {
  Keep(context, step, prediction, sample);
  if (step == 0) last_sample_ = Tensor(sample.shape(), DType::kF32);
  if (step > 0 && !config_.uncorrected_samples.contains(step)) {
    Combine(context, sigma(step) / sigma(step - 1), last_sample_, step, Weights(step - 1, true),
            sample);
  }
  ScaleShift(context, sample, 1, 0, last_sample_);
  Combine(context, sigma(step + 1) / sigma(step), sample, step, Weights(step, false), sample);
}

SchedulerMaker ReadUniPcMultistep(const JsonObject& json, const SchedulerConventions& conventions) {
  const UniPcMultistepConfig config = UniPcMultistepConfig::FromJson(json, conventions);
  return [config](const ScheduleRequest& request) {
    return std::make_unique<UniPcMultistep>(config, request);
  };
}

}  // namespace tamias
