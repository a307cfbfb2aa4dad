// What a SparseInvocation remembers and where it reports to: one DeltaAttention and one DeltaMlp
// per layer that has one, and the step cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "sparsity/rank_exchange.h"
#include "sparsity/step_cache.h"
#include "sparsity/step_numbers.h"
#include "tamias/error.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/delta_attention.h"
#include "tamias/sparsity/delta_mlp.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/report.h"
#include "tamias/sparsity/schedule.h"
#include "tamias/sparsity/selection.h"
#include "tamias/sparsity/state_builder.h"

namespace tamias {

// While one lives, what is enqueued on the context's queue finds a part of the state.
class StateTurn {
 public:
  // is_changed: the part is kept as it is then.
  StateTurn(const Context& context, const StatePart& part, bool is_changed)
      : context_(context), part_(part), is_changed_(is_changed) {
    part.Enter(context);
  }
  ~StateTurn() {
    try {
      part_.Leave(context_, is_changed_);
    } catch (const Error&) {  // of the device: shows at the next wait for it, too
    }
  }
  StateTurn(const StateTurn&) = delete;
  StateTurn& operator=(const StateTurn&) = delete;

 private:
  const Context& context_;
  const StatePart& part_;
  bool is_changed_;
};

class InvocationState {
 public:
  // The selector must outlive this; it may be null when attention is not enabled. exchange: with
  // the other ranks of the geometry; null where there are none, and when planning.
  InvocationState(const SparsityConfig& config, const SparseGeometry& geometry,
                  const ColumnSelector* selector, std::shared_ptr<RankExchange> exchange, int index,
                  StateBuilder& builder);

  // Steps report into `report`, which must stay where it is until the next call. time: the step's
  // noise level.
  // numbers: of the session's steps.
  void BeginStep(const StepPlan& plan, double time, StepReport* report, StepNumbers* numbers);
  StepNumbers* numbers() const { return numbers_; }
  // The next step is as the first.
  void Forget();
  // Counts this invocation as skipped on this step.
  void ReportSkipped();
  // Where a layer reports to on this step.
  LayerReport& ReportOf(int layer);
  double& step_cache_seconds();
  void ReportExchanged(size_t bytes);

  const SparseGeometry& geometry() const { return geometry_; }
  RankExchange* exchange() { return exchange_.get(); }
  // Null: computed densely.
  DeltaAttention* attention(int layer);
  DeltaMlp* mlp(int layer);
  // Around a layer's attention or MLP, or the step cache: state that is elsewhere comes, and goes
  // again, kept as it is where it is_changed.
  template <typename Body>
  void WithAttention(const Context& context, int layer, const Body& body) {
    const auto i = static_cast<size_t>(layer);
    With(context, attention_part_[i], attention_[i]->Changes(plan_.attention_is_full), body);
  }
  template <typename Body>
  void WithMlp(const Context& context, int layer, const Body& body) {
    With(context, mlp_part_[static_cast<size_t>(layer)], /*is_changed=*/true, body);
  }
  template <typename Body>
  void WithStepCache(const Context& context, bool is_changed, const Body& body) {
    With(context, step_cache_part_, is_changed, body);
  }
  StepCache& step_cache() { return step_cache_; }
  // StepCache::Store and Reuse, timed.
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
  template <typename Body>
  static void With(const Context& context, const StatePart& part, bool is_changed,
                   const Body& body) {
    const StateTurn turn(context, part, is_changed);
    body();
  }

  SparseGeometry geometry_;
  std::shared_ptr<RankExchange> exchange_;
  int index_;
  int num_layers_;
  bool needs_steps_;
  bool has_attention_;  // deltas, which full steps renew
  bool has_mlp_;
  std::vector<std::unique_ptr<DeltaAttention>> attention_;
  std::vector<std::unique_ptr<DeltaMlp>> mlp_;
  std::vector<StatePart> attention_part_;
  std::vector<StatePart> mlp_part_;
  StatePart step_cache_part_;
  StepCache step_cache_;
  StepPlan plan_{.attention_is_full = true, .mlp_is_full = true};
  StepReport* report_ = nullptr;
  StepNumbers* numbers_ = nullptr;
  LayerReport unreported_;
};

}  // namespace tamias
