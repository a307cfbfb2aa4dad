// DPM-Solver++ multistep: see the header.
#include "models/schedulers/dpm_solver_multistep.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/check.h"
#include "io/json.h"
#include "models/schedulers/scheduler_fields.h"
#include "tamias/ops/elementwise.h"

namespace tamias {
namespace {

// n levels, shifted: 1 - alpha for the alphas linspace(1, 1 / num_train_timesteps, n + 1), the
// largest first, without the last. Operation by operation as NumPy, since timesteps are rounded.
std::vector<double> ShiftedSigmas(const DpmSolverMultistepConfig& config,
                                  const ScheduleRequest& request) {
  CheckNumSteps(request.num_steps);
  const std::vector<double> alphas = Linspace(
      1, 1 / static_cast<double>(config.multistep.num_train_timesteps), request.num_steps + 1);
  const double shift = config.multistep.ShiftFor(request);
  std::vector<double> sigmas;
  for (size_t i = alphas.size() - 1; i > 0; --i) {
    sigmas.push_back(ShiftSigma(shift, 1.0 - alphas[i]));
  }
  return sigmas;
}

DpmSolver ReadSolver(const JsonObject& json) {
  const std::string type = json.StringOr("solver_type", "midpoint");
  if (type == "heun") return DpmSolver::kHeun;
  // diffusers takes the names of other classes' solvers for midpoint.
  if (type == "midpoint" || type == "bh1" || type == "bh2" || type == "logrho") {
    return DpmSolver::kMidpoint;
  }
  json.FailField("solver_type", "expected \"midpoint\" or \"heun\", found \"" + type + "\"");
}

bool ReadIsStochastic(const JsonObject& json) {
  const std::string type = json.StringOr("algorithm_type", "dpmsolver++");
  if (type == "sde-dpmsolver++") return true;
  // diffusers takes the name of another class's algorithm for dpmsolver++.
  if (type == "dpmsolver++" || type == "deis") return false;
  FailUnsupported(json, "algorithm_type", "\"dpmsolver++\" or \"sde-dpmsolver++\"");
}

// "sigma_min" is the smallest noise level of the variance-preserving schedule that the betas make,
// sqrt((1 - a) / a) with a = 1 - beta_0, though the other levels are flow sigmas. In fp32 as there.
double ReadSigmaMin(const JsonObject& json) {
  RequireAbsent(json, "trained_betas");
  RequireBool(json, "rescale_betas_zero_snr", false, false);
  const std::string schedule = json.StringOr("beta_schedule", "linear");
  if (schedule != "linear" && schedule != "scaled_linear") {
    FailUnsupported(json, "beta_schedule", "\"linear\" or \"scaled_linear\"");
  }
  const double start = json.FloatOr("beta_start", 0.0001, {1e-9, 0.5});
  const auto root = static_cast<float>(std::sqrt(start));
  const float beta = schedule == "linear" ? static_cast<float>(start) : root * root;
  const float alpha = 1.0f - beta;
  return std::sqrt((1.0f - alpha) / alpha);
}

}  // namespace

DpmSolverMultistepConfig DpmSolverMultistepConfig::FromJson(
    const JsonObject& json, const SchedulerConventions& conventions) {
  DpmSolverMultistepConfig config;
  config.multistep = MultistepConfig::FromJson(json);
  RequireBool(json, "use_lu_lambdas", false, false);
  config.solver = ReadSolver(json);
  config.is_stochastic = ReadIsStochastic(json);
  config.euler_at_final = json.BoolOr("euler_at_final", config.euler_at_final);
  if (config.multistep.final_sigma == FinalSigma::kSigmaMin) config.last_sigma = ReadSigmaMin(json);
  // Where the pipeline shifts by the tokens, diffusers insists on both; elsewhere neither counts.
  if (conventions.shifts_by_tokens) {
    RequireBool(json, "use_dynamic_shifting", false, true);
    RequireString(json, "time_shift_type", "exponential", "exponential");
    config.multistep.dynamic_shift = DynamicShift::FromJson(json);
  }
  return config;
}

DpmSolverMultistep::DpmSolverMultistep(const DpmSolverMultistepConfig& config,
                                       const ScheduleRequest& request)
    : MultistepScheduler(config.multistep, ShiftedSigmas(config, request), config.last_sigma,
                         config.multistep.solver_order, request.noise),
      config_(config) {}

size_t DpmSolverMultistep::HistoryBytes(int64_t elements) const {
  const size_t noise = config_.is_stochastic ? sizeof(float) * static_cast<size_t>(elements) : 0;
  return MultistepScheduler::HistoryBytes(elements) + noise;
}

int DpmSolverMultistep::Order(int step) const {
  const MultistepConfig& config = config_.multistep;
  const bool lowers = config.lower_order_final && num_steps() < 15;
  const int left = num_steps() - step;
  if (left == 1 && (lowers || config_.euler_at_final || config.final_sigma == FinalSigma::kZero)) {
    return 1;
  }
  const int most = left == 2 && lowers ? 2 : config.solver_order;
  return std::min({config.solver_order, step + 1, most});
}

std::vector<double> DpmSolverMultistep::Weights(int step) const {
  const int order = Order(step);
  const double h = Lambda(step + 1) - Lambda(step);
  const double k = config_.is_stochastic ? 2 * h : h;
  const double alpha = Alpha(step + 1);
  const double decay = std::expm1(-k);  // -1 at the end, where lambda is infinite
  std::vector<double> weights(static_cast<size_t>(order), 0.0);
  weights[0] = -alpha * decay;
  if (order == 1) return weights;

  // Differences D = (x0(i) - x0(i - 1)) / r of this and the last step, r their lengths in h.
  const double r0 = (Lambda(step) - Lambda(step - 1)) / h;
  const double slope = alpha * (decay / k + 1);
  if (order == 2) {
    const double d = (config_.solver == DpmSolver::kHeun ? slope : -0.5 * alpha * decay) / r0;
    weights[0] += d;
    weights[1] = -d;
    return weights;
  }
  const double r1 = (Lambda(step - 1) - Lambda(step - 2)) / h;
  // The expansion has + 1/2 in both; diffusers subtracts it in the stochastic one.
  const double curvature = alpha * (-(decay + k) / (k * k) + (config_.is_stochastic ? -0.5 : 0.5));
  const double second = (slope * r0 + curvature) / (r0 + r1);  // of D0 - D1
  weights[0] += (slope + second) / r0;
  weights[1] = -(slope + second) / r0 - second / r1;
  weights[2] = second / r1;
  return weights;
}

void DpmSolverMultistep::Step(Context& context, int step, ConstTensorView prediction,
                              TensorView sample) {
  Keep(context, step, prediction, sample);
  const double h = Lambda(step + 1) - Lambda(step);
  const double factor = sigma(step + 1) / sigma(step) * (config_.is_stochastic ? std::exp(-h) : 1);
  Combine(context, factor, sample, step, Weights(step), sample);
  if (!config_.is_stochastic) return;
  const double level = sigma(step + 1) * std::sqrt(-std::expm1(-2 * h));
  Axpy(context, static_cast<float>(level), DrawNoise(sample.shape()), sample);
}

SchedulerMaker ReadDpmSolverMultistep(const JsonObject& json,
                                      const SchedulerConventions& conventions) {
  const DpmSolverMultistepConfig config = DpmSolverMultistepConfig::FromJson(json, conventions);
  return [config](const ScheduleRequest& request) {
    return std::make_unique<DpmSolverMultistep>(config, request);
  };
}

}  // namespace tamias
