// Means over groups of consecutive rows (tokens): output[b, g, :] = mean of input[b, i, :] over the
// rows i of group g, G = ceil(N / group_size); the last group may be shorter.
#pragma once

#include <cstdint>

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

// input [B, N, d] f32, output [B, G, d] f32, any strides with last stride 1.
void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output);

namespace reference {
void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output);
}  // namespace reference
namespace cpu {
void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output);
}  // namespace cpu

}  // namespace tamias
