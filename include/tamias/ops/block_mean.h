// Means over groups of consecutive rows (tokens): output[b, g, :] = mean of input[b, i, :] over the
// rows i of group g, G = ceil(N / group_size); the last group may be shorter.
//
// On a GPU: input and output each f32, f16 or bf16, sums in fp32; d a multiple of 8, rows begin at
// multiples of 16 bytes. The work is enqueued.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// input [B, N, d] f32, output [B, G, d] f32, any strides with last stride 1.
void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output);

}  // namespace tamias
