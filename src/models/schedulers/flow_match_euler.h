// The flow-matching Euler scheduler (diffusers' FlowMatchEulerDiscreteScheduler, Esser et al.,
// 2403.03206): noise levels sigma_0 = 1 > ... > sigma_n = 0, shifted towards noise by a constant or
// by the number of image tokens, and the step x <- x + (sigma_{i+1} - sigma_i) v. With stochastic
// sampling the step goes to the predicted result and adds new noise of level sigma_{i+1}.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/schedulers/dynamic_shift.h"
#include "models/schedulers/flow_scheduler.h"
#include "models/schedulers/scheduler_conventions.h"

namespace tamias {

// How the levels lie between the first and the last; the other spacings replace what was between.
enum class SigmaSpacing {
  kShifted,      // as given and shifted
  kKarras,       // even in sigma^(1/7) (Karras et al., 2206.00364)
  kExponential,  // even in log sigma
};

struct FlowMatchEulerConfig {
  int64_t num_train_timesteps = 1000;
  double shift = 1.0;                         // used without dynamic shifting
  std::optional<DynamicShift> dynamic_shift;  // by the number of image tokens
  std::optional<double> shift_terminal;       // the last non-zero sigma, by stretching
  SigmaSpacing spacing = SigmaSpacing::kShifted;
  // The ends of the other spacings; none: those of the shifted levels.
  std::optional<double> sigma_min;
  std::optional<double> sigma_max;
  // Mochi: the model knows 1 - sigma, which runs from 0 to 1, and predicts the opposite velocity.
  bool invert_sigmas = false;
  bool stochastic_sampling = false;

  // Reads scheduler_config.json, without stochastic_sampling, and refuses what is not served.
  static FlowMatchEulerConfig FromJson(const JsonObject& json,
                                       const SchedulerConventions& conventions);
};

// The sigmas, before shifting, of the pipelines that state them: FLUX, linspace(1, 1 / n, n), and
// HunyuanVideo, the same but for rounding, linspace(1, 0, n + 1) without the last.
std::vector<double> EvenSigmas(int num_steps);
std::vector<double> EvenSigmasToZero(int num_steps);
// The sigmas, before shifting, of the pipelines that leave them to diffusers' scheduler (Wan): even
// between the largest and the smallest level of training, which are shifted already by `shift`.
std::vector<double> TrainingRangeSigmas(int64_t num_train_timesteps, double shift, int num_steps);

class FlowMatchEuler final : public FlowScheduler {
 public:
  FlowMatchEuler(const FlowMatchEulerConfig& config, const ScheduleRequest& request);

  // sample += (sigma(step + 1) - sigma(step)) * prediction; stochastic: RenewNoise.
  void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) override;
  size_t HistoryBytes(int64_t elements) const override;
  bool DrawsNoise() const override { return is_stochastic_; }

 private:
  bool is_stochastic_;
};

SchedulerMaker ReadFlowMatchEuler(const JsonObject& json, const SchedulerConventions& conventions);

}  // namespace tamias
