// Step caching: on some steps the transformer's blocks are not run and what an earlier step gave
// serves again, by schedule (StepSchedule) or while the model's input has hardly changed. The
// measure of change is that of TeaCache (Liu et al., arXiv 2411.19108): the relative L1 change of
// the modulated input of the first block, summed up over the steps since the last one that ran.
// What is kept is the hidden state after the last block, which the model's last layer then takes
// with the current modulation (Chipmunk), or the prediction: repeated, or continued by the line
// through the last two, the first-order Taylor forecast of TaylorSeer (Liu et al., arXiv
// 2503.06923), of the prediction alone.
// Symbols: B batch, N image tokens (of the rank, where several GPUs compute a call), d model width,
// C output channels.
#pragma once

#include <cstdint>
#include <functional>

#include "tamias/context.h"
#include "tamias/ops/distance.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/state_builder.h"
#include "tamias/tensor.h"

namespace tamias {

class StepCache {
 public:
  StepCache(const SparsityConfig::StepCaching& config, const SparseGeometry& geometry,
            StateBuilder& state);

  // Whether the model must run on a step with this modulated input [B, N, d]. Always true when
  // `must_run`, without a threshold, and before the first Store. over_ranks: adds what the other
  // ranks measured, so that all decide alike; none: there are none.
  using OverRanks = std::function<Distance(const Distance&)>;
  bool ShouldRun(Context& context, bool must_run, ConstTensorView modulated_input,
                 const OverRanks& over_ranks = {});

  // Whether ShouldRun looks at its input.
  bool compares_inputs() const { return is_enabled_ && threshold_ > 0; }
  // The time (noise level) of the step that begins: where predictions are extrapolated to.
  void BeginStep(double time) { time_ = time; }
  // What is kept: hidden states [B, N, d], or predictions [B, N, C].
  bool keeps_hidden() const { return reuse_ == StepReuse::kHidden; }
  // Keeps what the step begun last gave, f32.
  void Store(Context& context, ConstTensorView value);
  bool has_value() const { return has_value_; }
  // output f32: what stands in for it on the step begun last. Needs one Store.
  void Reuse(Context& context, TensorView output) const;
  // The next step is as the first.
  void Forget();
  // The change summed up since the last step that ran.
  double accumulated_change() const { return accumulated_; }

 private:
  bool is_enabled_;
  double threshold_;
  StepReuse reuse_;
  bool has_value_ = false;
  bool has_earlier_ = false;
  bool has_input_ = false;
  double accumulated_ = 0;
  Tensor previous_input_;  // [B, N, d]; with a threshold only
  Tensor value_;           // of the last step that ran: [B, N, d] or [B, N, C]
  Tensor earlier_;         // [B, N, C], of the one before; when extrapolating only
  double time_ = 0;
  double value_time_ = 0;
  double earlier_time_ = 0;
};

}  // namespace tamias
