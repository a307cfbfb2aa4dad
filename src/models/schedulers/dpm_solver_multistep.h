// DPM-Solver++ for flow matching (Lu et al., 2211.01095; diffusers' DPMSolverMultistepScheduler
// over flow sigmas): a multistep solver in the data prediction x0 = x - sigma v, of order 1 to 3,
// of the probability flow (dpmsolver++) or of the stochastic equation with the same marginals
// (sde-dpmsolver++), which draws noise at every step. h is a step in lambda.
#pragma once

#include <cstdint>
#include <vector>

#include "models/schedulers/multistep_scheduler.h"

namespace tamias {

enum class DpmSolver { kMidpoint, kHeun };  // of second-order steps

struct DpmSolverMultistepConfig {
  MultistepConfig multistep;
  DpmSolver solver = DpmSolver::kMidpoint;
  bool is_stochastic = false;
  bool euler_at_final = false;
  double last_sigma = 0;  // after the last step

  // Reads scheduler_config.json and refuses what is not served.
  static DpmSolverMultistepConfig FromJson(const JsonObject& json,
                                           const SchedulerConventions& conventions);
};

class DpmSolverMultistep final : public MultistepScheduler {
 public:
  // Throws kInvalidArgument when request.num_steps < 1.
  DpmSolverMultistep(const DpmSolverMultistepConfig& config, const ScheduleRequest& request);

  // Steps come in order, from 0; throws kInvalidArgument when the sample changes its shape.
  void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) override;
  size_t HistoryBytes(int64_t elements) const override;
  bool DrawsNoise() const override { return config_.is_stochastic; }

 private:
  int Order(int step) const;
  // The weights of the data predictions, newest first.
  std::vector<double> Weights(int step) const;

  DpmSolverMultistepConfig config_;
};

SchedulerMaker ReadDpmSolverMultistep(const JsonObject& json,
                                      const SchedulerConventions& conventions);

}  // namespace tamias
