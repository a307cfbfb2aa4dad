// UniPC for flow matching (Zhao et al., 2302.04867; diffusers' UniPCMultistepScheduler over flow
// sigmas, Wan's): a multistep predictor-corrector in the data prediction x0 = x - sigma v, of order
// 1 to 3, with B(h) = exp(-h) - 1 ("bh2") or -h ("bh1"), where h is the step in lambda. Each
// prediction first corrects the sample that it was made from, then predicts the next one.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

#include "models/schedulers/multistep_scheduler.h"

namespace tamias {

enum class UniPcSolver { kBh1, kBh2 };

struct UniPcMultistepConfig {
  MultistepConfig multistep;
  UniPcSolver solver = UniPcSolver::kBh2;
  std::optional<double> shift_terminal;   // the last non-zero sigma, by stretching
  std::set<int64_t> uncorrected_samples;  // disable_corrector: not corrected are those of step + 1

  // Reads scheduler_config.json and refuses what is not served; also what ends in values that are
  // not numbers, there as in diffusers.
  static UniPcMultistepConfig FromJson(const JsonObject& json,
                                       const SchedulerConventions& conventions);
};

class UniPcMultistep final : public MultistepScheduler {
 public:
  UniPcMultistep(const UniPcMultistepConfig& config, const ScheduleRequest& request);

  // Steps come in order, from 0; throws kInvalidArgument when the sample changes its shape.
  void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) override;
  size_t HistoryBytes(int64_t elements) const override;

 private:
  UniPcMultistep(const UniPcMultistepConfig& config, const std::vector<double>& sigmas);
  // The order of the predictor of step `step`, and of the corrector that follows it.
  int Order(int step) const;
  // The weights of the data predictions, newest first, in a step from `from` to `from` + 1 of its
  // order: those known at `from`, and for the corrector the one made at its end before them.
  std::vector<double> Weights(int from, bool is_corrector) const;

  UniPcMultistepConfig config_;
  Tensor last_sample_;  // before the last predictor
};

SchedulerMaker ReadUniPcMultistep(const JsonObject& json, const SchedulerConventions& conventions);

}  // namespace tamias
