// The operations of tamias/ops/column_sparse_attention.h as each device computes them.
// src/ops/column_sparse_attention.cc checks the arguments and calls these.
#pragma once

#include "tamias/ops/column_sparse_attention.h"

namespace tamias {

namespace reference {
void ColumnSparseAttention(Context& context, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp = {});
}  // namespace reference

namespace cpu {
// Of the rows in groups: inputs and output begin behind the selection's dense rows.
void ColumnSparseAttention(Context& context, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp = {});
}  // namespace cpu

namespace cuda {
// order [B * H * G] i32: ColumnSelection::order.
void ColumnSparseAttention(Stream& stream, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp = {}, ConstTensorView order = {});

// In steps of one tile of 64 keys; groups of like length stay together with their head. counts
// [B, H, G] i32 contiguous, order of as many i32 in one dimension.
void LongestFirstOrder(Stream& stream, ConstTensorView counts, TensorView order);
}  // namespace cuda

}  // namespace tamias
