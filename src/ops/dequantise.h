// Matrices in 8-bit floats with a scale for each row, as 16- or 32-bit floats: what is multiplied.
// output[n, k] = scale[n] code[n, k], rounded to nearest even. A scale is a power of two, so that
// bf16 and f32 hold each product exactly.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// matrix [N, K] fp8_e4m3 with row scales, no NaN among its codes, last stride 1; output [N, K] in
// the type of the context's activations, contiguous.
void Dequantise(Context& context, ConstTensorView matrix, TensorView output);

// The matrix itself, or of one in 8-bit floats what Dequantise gives, valid in the caller's
// workspace scope.
ConstTensorView Dequantised(Context& context, ConstTensorView matrix);

namespace reference {
void Dequantise(Context& context, ConstTensorView matrix, TensorView output);
}  // namespace reference
namespace cpu {
void Dequantise(Context& context, ConstTensorView matrix, TensorView output);
}  // namespace cpu

// On a GPU: output f32, f16 or bf16. Returns once the work is enqueued.
namespace cuda {
class Stream;
void Dequantise(Stream& stream, ConstTensorView matrix, TensorView output);
}  // namespace cuda

}  // namespace tamias
