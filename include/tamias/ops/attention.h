// Dense attention, softmax(scale q k^T) v, bidirectional or causal, with by-products of the same
// pass: the log-sum-exp of each row and the column sums from which sparse columns are chosen
// (Chipmunk, arXiv 2506.03275). Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension
// (any; multiples of 8 run at full speed), G = ceil(Nq / group_size) groups of query rows.
//
// On the CPU with activations in bf16 (tamias/context.h): query, key, value and output are f32 or
// bf16, all the same. bf16 is multiplied as such where the processor does that, weights of the
// softmax rounded to it; sums, log-sum-exps and column sums are fp32.
//
// On a GPU of compute capability 8.0 or later: query, key, value and output are bf16 or f16 (all
// the same), D is 64 or 128, rows of D elements start at multiples of 16 bytes, and scale > 0.
// Accumulation is fp32; log-sum-exps and column sums stay f32. The work is enqueued.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

struct AttentionInputs {
  ConstTensorView query = {};            // [B, H, Nq, D] f32, any strides with last stride 1
  ConstTensorView key = {}, value = {};  // [B, H, Nk, D] f32, any strides with last stride 1
  float scale = 0;                       // scores are scale * q.k; usually 1 / sqrt(D)
  // Query i sees keys j <= i + (Nk - Nq) only, the last query all of them; needs Nk >= Nq. What a
  // query does not see has no part in its output, its log-sum-exp and the column sums.
  bool causal = false;

  // Query i sees keys 0 to VisibleKeys(i) - 1.
  int64_t VisibleKeys(int64_t i) const {
    return causal ? key.dim(2) - query.dim(2) + i + 1 : key.dim(2);
  }

  // The same of queries [begin, end); causal ones see what they saw only if the last is among them.
  AttentionInputs OfQueries(int64_t begin, int64_t end) const {
    AttentionInputs inputs = *this;
    inputs.query = query.Slice(2, begin, end);
    return inputs;
  }
};

// output [B, H, Nq, D] f32, any strides with last stride 1, not overlapping the inputs.
// log_sum_exp [B, H, Nq] f32 contiguous, the natural logarithm of the sum of exp(scores) of each
// row, or empty: not wanted. With no keys the output is 0 and the log-sum-exp -inf. Finite inputs
// whose scores and outputs fit fp32 give finite outputs, whatever the size of the scores.
void DenseAttention(Context& context, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp = {});

// Also column_sums[b, h, g, j] = sum over the rows i of group g of
// exp(score_ij - previous_log_sum_exp[b, h, i]), [B, H, G, Nk] f32 contiguous.
// previous_log_sum_exp [B, H, Nq] f32 contiguous; it may be the same memory as log_sum_exp.
void DenseAttentionColumnSums(Context& context, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums);

}  // namespace tamias
