// Takes a part of the keys out of an attention output: the inverse of the merge of two partitions.
// With (o, lse) over all keys and (o_S, lse_S) over a selection S of them, the others give
//   w = exp(lse_S - lse), o_rest = (o - w o_S) / (1 - w), lse_rest = lse + log(1 - w).
// Shapes: B batch, H heads, N queries, D head dimension.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Below this share of the softmax mass, what lies outside the selection is lost in the rounding of
// lse (a few 1e-6): it counts as nothing, o_rest = 0 and lse_rest = -inf.
constexpr float kMinRestShare = 1e-5f;

struct AttentionPartition {
  ConstTensorView output = {};                // [B, H, N, D] f32, last stride 1: o
  ConstTensorView log_sum_exp = {};           // [B, H, N] f32 contiguous: lse
  ConstTensorView selected_log_sum_exp = {};  // [B, H, N] f32 contiguous: lse_S
};

// rest [B, H, N, D] f32, last stride 1: o_S on entry, o_rest on return.
// rest_log_sum_exp [B, H, N] f32 contiguous.
void AttentionRest(Context& context, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp);

namespace reference {
void AttentionRest(Context& context, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp);
}  // namespace reference
namespace cpu {
void AttentionRest(Context& context, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp);
}  // namespace cpu

// On a GPU: output and rest each f32, f16 or bf16, arithmetic in fp32; D a multiple of 8, rows
// begin at multiples of 16 bytes. Returns once the work is enqueued.
namespace cuda {
class Stream;
void AttentionRest(Stream& stream, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp);
}  // namespace cuda

}  // namespace tamias
