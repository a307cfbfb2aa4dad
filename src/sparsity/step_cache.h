// Step caching: on some steps the transformer is not run and its previous prediction serves again,
// by schedule (StepSchedule) or while the model's input has hardly changed. The measure of change
// is that of TeaCache (Liu et al., arXiv 2411.19108): the relative L1 change of the modulated input
// of the first block, summed up over the steps since the last one that ran. Symbols: B batch, N
// image tokens, d model width, C output channels.
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

  // prediction [B, N, C].
  void Store(Context& context, ConstTensorView prediction);
  ConstTensorView prediction() const;  // empty before the first Store
  // The change summed up since the last step that ran.
  double accumulated_change() const { return accumulated_; }

 private:
  bool is_enabled_;
  double threshold_;
  bool has_prediction_ = false;
  bool has_input_ = false;
  double accumulated_ = 0;
  Tensor previous_input_;  // [B, N, d]; with a threshold only
  Tensor prediction_;      // [B, N, C]
};

}  // namespace tamias
