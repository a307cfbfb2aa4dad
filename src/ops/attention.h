// The operations of tamias/ops/attention.h as each device computes them. src/ops/attention.cc
// checks the arguments and calls these.
#pragma once

#include "tamias/ops/attention.h"

namespace tamias {

// Throws kInvalidArgument unless the inputs and the output fit each other as tamias/ops/attention.h
// says and lie on the context's device.
void CheckAttention(const Context& context, const char* operation, const AttentionInputs& inputs,
                    const TensorView& output, const TensorView& log_sum_exp);

namespace reference {
void DenseAttention(Context& context, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp = {});
void DenseAttentionColumnSums(Context& context, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums);
}  // namespace reference

namespace cpu {
void DenseAttention(Context& context, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp = {});
void DenseAttentionColumnSums(Context& context, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums);
}  // namespace cpu

namespace cuda {
class Stream;
void DenseAttention(Stream& stream, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp = {});
void DenseAttentionColumnSums(Stream& stream, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums);
}  // namespace cuda

}  // namespace tamias
