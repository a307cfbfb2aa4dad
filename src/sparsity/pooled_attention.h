// What mean query rows tell of the rows that they stand for, at a small part of the cost: an
// estimate of a group's column sums, and of what its rows get from the columns that are left out.
// Shapes: H heads, Nq query rows, Nk keys, D head dimension, G = ceil(Nq / group_size) groups.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/ops/column_sparse_attention.h"
#include "tamias/tensor.h"

namespace tamias {

class PooledAttention {
 public:
  // Attention of the means of every few query rows of `inputs` ([1, H, ..., D]) over all keys. All
  // that this makes lies in the workspace and is valid until the caller's scope ends.
  PooledAttention(Context& context, const AttentionInputs& inputs, int64_t group_size);

  // column_sums [1, H, G, Nk] f32: sum over the mean rows of group g of exp(score - lse).
  void ColumnSums(Context& context, TensorView column_sums) const;

  // The attention of each row over what its group's selection leaves out, and its log-sum-exp, both
  // those of its mean row: what A_S is merged with.
  SparseAttentionEpilogue Rest(Context& context, const ColumnSelection& selection) const;

 private:
  int64_t rows_;            // that a mean row stands for
  int64_t rows_of_inputs_;  // Nq
  int64_t means_per_group_;
  AttentionInputs means_;   // the query: [1, H, ceil(Nq / rows_), D]
  TensorView output_;       // as the query
  TensorView log_sum_exp_;  // [1, H, ceil(Nq / rows_)]
};

}  // namespace tamias
