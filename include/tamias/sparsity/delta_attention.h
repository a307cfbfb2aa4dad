// Attention of one layer and one invocation as a delta (Chipmunk, arXiv 2506.03275, section
// "Attention"). A full step computes everything, chooses for each group of query rows the key
// columns S that matter, and keeps what the others contribute; a sparse step computes only A_S, the
// attention over S, and adds what was kept:
//   additive:  o_cache = o_full - A_S,                          o = o_cache + A_S(q, k, v)
//   lse:       w = exp(lse_S - lse), o_rest = (o_full - w o_S) / (1 - w),
//              lse_rest = lse + log(1 - w);  o = merge of (o_S, lse_S)(q, k, v), (o_rest, lse_rest)
//   pooled:    o_rest and lse_rest are not kept: those of the mean of a few query rows serve them,
//              from the queries, keys and values of the step itself
// S is chosen by column sums: exact ones, of a full step, or pooled ones, of the mean rows. Where
// nothing is kept that S belongs to, sparse steps choose their own by pooled sums, and no step need
// be full.
// Symbols: B batch, H heads, L text tokens, N image tokens, Nk = L + N keys, D head dimension,
// G = ceil(N / group_size) groups of image queries. Text queries attend to everything, always.
#pragma once

#include <cstdint>
#include <memory>

#include "tamias/context.h"
#include "tamias/ops/column_sparse_attention.h"
#include "tamias/ops/distance.h"
#include "tamias/sparsity/config.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/report.h"
#include "tamias/sparsity/selection.h"
#include "tamias/sparsity/state_builder.h"
#include "tamias/tensor.h"

namespace tamias {

class StepNumbers;

class DeltaAttention {
 public:
  // should_profile: drift is measured over all heads and rows, not a sample. The selector must
  // outlive this. `seed` is of this layer. With a geometry of several ranks: its heads alone.
  DeltaAttention(const SparsityConfig::Attention& config, bool should_profile,
                 const SparseGeometry& geometry, const ColumnSelector& selector, uint64_t seed,
                 StateBuilder& state);

  // inputs and output [B, H, L + N, D] (H: of the rank), text first, in the type of the context's
  // activations. Adds work, drift and time to the report. Without a selection, and unless it
  // chooses its own, a sparse step is computed as a full one. Throws kInvalidArgument for other
  // shapes, kUnsupported for causal inputs. On a GPU a step that selects or measures drift waits
  // for the numbers, or leaves them to `numbers`, which a session has: they are in the report when
  // its step has ended.
  void Run(Context& context, bool is_full, const AttentionInputs& inputs, TensorView output,
           LayerReport& report, StepNumbers* numbers = nullptr);
  // Whether Run changes the state.
  bool Changes(bool is_full) const { return is_full || !has_selection_ || SelectsOnSparseSteps(); }
  // The next step is as the first.
  void Forget();

 private:
  // One batch item and a run of heads: what is worked on at a time, so that scratch stays bounded.
  struct Part {
    int64_t batch;
    int64_t first_head;
    int64_t last_head;  // exclusive
    int64_t heads() const { return last_head - first_head; }
    template <typename View>  // of a tensor [B, H, ...]
    View Of(const View& view) const {
      return view.Slice(0, batch, batch + 1).Slice(1, first_head, last_head);
    }
    AttentionInputs Of(const AttentionInputs& inputs) const {
      return {Of(inputs.query), Of(inputs.key), Of(inputs.value), inputs.scale};
    }
  };
  // Drift of one step, to which numbers are added when they are there.
  using SharedDistance = std::shared_ptr<Distance>;
  void AttendText(Context& context, const AttentionInputs& inputs, TensorView output,
                  LayerReport& report) const;
  void RunFull(Context& context, const AttentionInputs& image, TensorView output,
               LayerReport& report, StepNumbers* numbers);
  void RunSparse(Context& context, const AttentionInputs& inputs, TensorView output,
                 LayerReport& report, StepNumbers* numbers);
  void FullPart(Context& context, const Part& part, const AttentionInputs& image, TensorView output,
                bool selects, const SharedDistance& drift, LayerReport& report,
                StepNumbers* numbers);
  // Whether sparse steps choose their own columns.
  bool SelectsOnSparseSteps() const { return config_.FirstFullSteps() == 0; }
  // Whether a step that can select does.
  bool IsSelectionDue() const { return config_.recompute_mask || !has_selection_; }
  void BeginSelection(StepNumbers* numbers);
  // [1, H, G, Nk] for the heads of a part.
  TensorView AllocateColumnSums(Context& context, const Part& part) const;
  void SelectColumns(Context& context, const Part& part, ConstTensorView column_sums,
                     StepNumbers* numbers);
  // Leaves in the cache what the selected columns do not give.
  void Fold(Context& context, const Part& part, const AttentionInputs& image,
            ConstTensorView output);
  // What a sparse step combines the A_S of query rows [begin, end) with; a cache that is narrower
  // than the activations is widened into the workspace, valid until the caller's scope ends.
  SparseAttentionEpilogue Cached(Context& context, const Part& part, int64_t begin,
                                 int64_t end) const;
  // The selection of any heads, without an order; in the workspace unless lists are kept.
  ColumnSelection Unpack(Context& context, const Part& part);
  // That of a part of ForEachPart, with its order.
  ColumnSelection UnpackInOrder(Context& context, const Part& part);
  // Adds what is to be measured of the part: everything with should_profile_, else a few groups of
  // one head, others each time.
  void AddDrift(Context& context, const Part& part, const AttentionInputs& image,
                ConstTensorView full, const SharedDistance& drift, StepNumbers* numbers);
  void AddDriftOfGroups(Context& context, const Part& head, int64_t first_group, int64_t last_group,
                        const AttentionInputs& image, ConstTensorView full,
                        const SharedDistance& drift, StepNumbers* numbers);
  template <typename Body>  // body(part) for all parts
  void ForEachPart(const Body& body) const;

  SparsityConfig::Attention config_;
  bool should_profile_;
  SparseGeometry geometry_;
  const ColumnSelector& selector_;
  uint64_t seed_;
  int64_t num_heads_;  // of the rank
  int64_t num_groups_;
  int64_t capacity_;  // columns of a group at most
  int64_t full_steps_ = 0;
  int64_t selections_ = 0;  // begun so far
  bool has_selection_ = false;
  double selected_pairs_ = 0;  // query-key pairs of the selection, over batch, heads and rows

  Tensor log_sum_exp_;  // [B, H, N] of the last full step; for exact sums and merge lse
  Tensor cache_;        // [B, H, N, D]: o_cache, or o_rest, in CacheType(); not for merge pooled
  Tensor rest_log_sum_exp_;  // [B, H, N]: lse_rest; merge lse only
  Tensor mask_;              // [B, H, G, ceil(Nk / 8)] u8; with should_compress_indices
  Tensor indices_;           // [B, H, G, capacity] i32; without
  Tensor counts_;            // [B, H, G] i32; without
  // [B, H, G] i32, on a GPU: within each part, the order in which its groups start.
  Tensor order_;
};

}  // namespace tamias
