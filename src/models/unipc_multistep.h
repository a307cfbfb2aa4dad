// UniPC for flow matching (Zhao et al., 2302.04867; diffusers' UniPCMultistepScheduler as Wan sets
// it): a multistep predictor-corrector in the data prediction x0 = x - sigma v, of order 2 with
// B(h) = exp(-h) - 1 ("bh2"), where lambda = log((1 - sigma) / sigma) and h is its step. Each
// prediction first corrects the sample that it was made from, then predicts the next one.
#pragma once

#include <array>
#include <cstdint>

#include "models/flow_scheduler.h"

namespace tamias {

class JsonObject;

struct UniPcMultistepConfig {
  int64_t num_train_timesteps = 1000;
  double flow_shift = 1.0;

  // Reads scheduler_config.json. Throws kUnsupported naming the field for settings other than
  // prediction_type flow_prediction, use_flow_sigmas, solver_order 2, solver_type bh2, predict_x0,
  // lower_order_final, final_sigmas_type zero and an empty disable_corrector.
  static UniPcMultistepConfig FromJson(const JsonObject& json);
};

class UniPcMultistep final : public FlowScheduler {
 public:
  // Throws kInvalidArgument when num_steps < 1.
  UniPcMultistep(const UniPcMultistepConfig& config, int num_steps);

  // Steps come in order, from 0; throws kInvalidArgument when the sample changes its shape.
  void Step(Context& context, int step, ConstTensorView prediction, TensorView sample) override;
  size_t HistoryBytes(int64_t elements) const override;

 private:
  // lambda before step `step`; infinite at its end, sigma = 0.
  double Lambda(int step) const;
  // The order of the predictor of step `step`: 1 at both ends.
  int Order(int step) const;
  // sample = the state at sigma(step), from what was known before and x0 [the prediction there].
  void Correct(Context& context, int step, ConstTensorView x0, TensorView sample) const;
  void Predict(Context& context, int step, TensorView sample) const;

  // The data prediction of step `step` lies in predictions_[step % 3].
  std::array<Tensor, 3> predictions_;
  Tensor last_sample_;  // before the last predictor
  int next_step_ = 0;
};

}  // namespace tamias
