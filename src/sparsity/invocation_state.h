// What a SparseInvocation remembers and where it reports to: one DeltaAttention and one DeltaMlp
// per layer that has one, and the step cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "sparsity/step_cache.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/delta_attention.h"
#include "tamias/sparsity/delta_mlp.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/report.h"
#include "tamias/sparsity/schedule.h"
#include "tamias/sparsity/selection.h"
#include "tamias/sparsity/state_builder.h"

namespace tamias {

class InvocationState {
 public:
  // The selector must outlive this; it may be null when attention is not enabled.
  InvocationState(const SparsityConfig& config, const SparseGeometry& geometry,
                  const ColumnSelector* selector, int index, StateBuilder& builder);

  // Steps report into `report`, which must stay where it is until the next call. time: the step's
  // noise level.
  void BeginStep(const StepPlan& plan, double time, StepReport* report);
  // The next step is as the first.
  void Forget();
  // Counts this invocation as skipped on this step.
  void ReportSkipped();
  // Where a layer reports to on this step.
  LayerReport& ReportOf(int layer);
  double& step_cache_seconds();

  // Null: computed densely.
  DeltaAttention* attention(int layer);
  DeltaMlp* mlp(int layer);
  // Called when a layer's attention or MLP is done for this step: spilled state leaves memory.
  void ReleaseAttention(int layer) { attention_range_[static_cast<size_t>(layer)].Release(); }
  void ReleaseMlp(int layer) { mlp_range_[static_cast<size_t>(layer)].Release(); }
  void ReleaseStepCache() { step_cache_range_.Release(); }
  StepCache& step_cache() { return step_cache_; }
  // StepCache::Store and Reuse, timed; what is spilled then leaves memory.
  void Store(Context& context, ConstTensorView value);
  void Reuse(Context& context, TensorView output);
  // A full step that the deltas wait for: it runs however little the input has changed.
  bool MustRun() const {
    return (has_attention_ && plan_.attention_is_full) || (has_mlp_ && plan_.mlp_is_full);
  }
  const StepPlan& plan() const { return plan_; }
  int64_t step() const { return report_ != nullptr ? report_->step : 0; }
  // Throws when sparse state would be used before a step has begun.
  void CheckStepHasBegun() const;

 private:
  int index_;
  int num_layers_;
  bool needs_steps_;
  bool has_attention_;  // deltas, which full steps renew
  bool has_mlp_;
  std::vector<std::unique_ptr<DeltaAttention>> attention_;
  std::vector<std::unique_ptr<DeltaMlp>> mlp_;
  std::vector<SpilledRange> attention_range_;
  std::vector<SpilledRange> mlp_range_;
  SpilledRange step_cache_range_;
  StepCache step_cache_;
  StepPlan plan_{.attention_is_full = true, .mlp_is_full = true};
  StepReport* report_ = nullptr;
  LayerReport unreported_;
};

}  // namespace tamias
