// Column-sparse attention A_S: every group of query rows attends to its own list of key columns,
// with its own softmax normalisation, and the result is combined with what is cached (Chipmunk,
// arXiv 2506.03275, section "Attention"). Shapes: B batch, H heads, Nq queries, of which
// M = Nq - dense_rows are in groups, Nk keys, D head dimension, G = ceil(M / group_size) groups.
//
// With activations in bf16 on the CPU and on a GPU: types and shapes as in tamias/ops/attention.h;
// the base has the type of the output. On a GPU the lists of the selection are trusted: an index
// outside [0, Nk) reads foreign memory.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/ops/attention.h"
#include "tamias/tensor.h"

namespace tamias {

// The key columns that each group of query rows sees.
struct ColumnSelection {
  ConstTensorView indices = {};  // [B, H, G, capacity] i32 contiguous, ascending within a group
  ConstTensorView counts = {};   // [B, H, G] i32 contiguous, in [0, capacity]
  int64_t group_size = 192;      // the last group of a head may be shorter
  // The first query rows of a head, before the groups, attend to every key, whatever the epilogue:
  // the text tokens of joint attention. On a GPU they share a launch with the groups. 0 with causal
  // inputs.
  int64_t dense_rows = 0;
  // [B, H, G] i32 contiguous: the order in which a GPU starts the groups (LongestFirstOrder), or
  // empty: as they come. Changes nothing but the time; a CPU does not read it.
  ConstTensorView order = {};
};

// How A_S is combined with what is cached. Three forms:
//   base empty:               output = scale * A_S
//   base given:               output = base + scale * A_S                       (additive)
//   base and its lse given:   output = exp(lse_S - l) A_S + exp(base_lse - l) base with
//                             l = logaddexp(lse_S, base_lse): the merge of two partitions of the
//                             keys; scale must be 1. Rows empty in both are 0.
struct SparseAttentionEpilogue {
  ConstTensorView base = {};  // [B, H, M, D] f32, last stride 1; may be the output's rows
  ConstTensorView base_log_sum_exp = {};  // [B, H, M] f32 contiguous; -inf: the base has no weight
  float scale = 1;
};

// output [B, H, Nq, D] f32, any strides with last stride 1. log_sum_exp [B, H, M] f32 contiguous:
// lse_S, the log-sum-exp over the selected columns only, or empty: not wanted. A group with an
// empty selection has A_S = 0 and lse_S = -inf. With causal inputs a row sees those columns of its
// group's selection that its place allows; where that is none, A_S = 0 and lse_S = -inf. Throws
// kInvalidArgument when shapes do not fit or the indices of a group are not ascending or not in [0,
// Nk).
void ColumnSparseAttention(Context& context, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp = {});

// On a GPU: writes the order of a selection's groups by falling number of columns, so that the long
// lists do not start last. Worth computing once per selection, to be kept with it: it sorts. counts
// and order [B, H, G] i32 contiguous. Throws kUnsupported on a CPU, whose threads take groups as
// they become free.
void LongestFirstOrder(Context& context, ConstTensorView counts, TensorView order);

}  // namespace tamias
