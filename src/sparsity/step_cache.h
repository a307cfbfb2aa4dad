// Step caching: on some steps the transformer is not run and its previous prediction serves again,
// by schedule (StepSchedule) or while the model's input has hardly changed. The measure of change
// is that of TeaCache (Liu et al., arXiv 2411.19108): the relative L1 change of the modulated input
// of the first block, summed up over the steps since the last one that ran. What stands in for a
// skipped prediction is the last one again or, with order 1, the line through the last two: the
// first-order Taylor forecast of TaylorSeer (Liu et al., arXiv 2503.06923), of the prediction
// alone. Symbols: B batch, N image tokens, d model width, C output channels.
#pragma once

#include <cstdint>

#include "base/context.h"
#include "base/tensor.h"
#include "sparsity/config.h"
#include "sparsity/geometry.h"
#include "sparsity/state_builder.h"

namespace tamias {

class StepCache {
 public:
  StepCache(const SparsityConfig& config, const SparseGeometry& geometry, StateBuilder& state);

  // Whether the model must run on a step with this modulated input [B, N, d]. Always true when
  // `must_run`, without a threshold, and before the first prediction.
  bool ShouldRun(Context& context, bool must_run, ConstTensorView modulated_input);

  // The time (noise level) of the step that begins: where order 1 extrapolates to.
  void BeginStep(double time) { time_ = time; }
  // Keeps the prediction [B, N, C] of the step begun last.
  void Store(Context& context, ConstTensorView prediction);
  bool has_prediction() const { return has_prediction_; }
  // output [B, N, C]: what stands in for the prediction of the step begun last. Needs one Store.
  void Predict(Context& context, TensorView output) const;
  // The change summed up since the last step that ran.
  double accumulated_change() const { return accumulated_; }

 private:
  bool is_enabled_;
  double threshold_;
  bool extrapolates_;
  bool has_prediction_ = false;
  bool has_earlier_ = false;
  bool has_input_ = false;
  double accumulated_ = 0;
  Tensor previous_input_;  // [B, N, d]; with a threshold only
  Tensor prediction_;      // [B, N, C]
  Tensor earlier_;         // [B, N, C], the one before; with order 1 only
  double time_ = 0;
  double prediction_time_ = 0;
  double earlier_time_ = 0;
};

}  // namespace tamias
