// A matrix turned on its side: output[c, r] = input[r, c].
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// input [R, C] f32, f16 or bf16, or fp8_e4m3 with scales of its rows (and no NaN), last stride 1;
// output [C, R], contiguous: f32, or bf16 where the context's activations are; on a GPU f32, f16 or
// bf16.
void Transpose(Context& context, ConstTensorView input, TensorView output);

namespace reference {
void Transpose(Context& context, ConstTensorView input, TensorView output);
}  // namespace reference
namespace cpu {
void Transpose(Context& context, ConstTensorView input, TensorView output);
}  // namespace cpu

// Returns once the work is enqueued.
namespace cuda {
class Stream;
void Transpose(Stream& stream, ConstTensorView input, TensorView output);
}  // namespace cuda

}  // namespace tamias
