// Rows of activations or weights in 8-bit floats with a scale for each row, as base/float8_row.h
// says: what ops/dequantise.h reads.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// input [B, N, K] f32, f16 or bf16, any strides with last stride 1; codes [B, N, K] fp8_e4m3 and
// scales [B, N] f32, contiguous. A row with an element that is not finite has codes of zero and NaN
// for its scale: what is computed from it is not finite either. On a GPU K is a multiple of 8 and
// rows begin at multiples of 16 bytes; returns once the work is enqueued.
void QuantiseRows(Context& context, ConstTensorView input, TensorView codes, TensorView scales);

// The codes as a matrix [B N, K] with its scales.
ConstTensorView MatrixOf(ConstTensorView codes, ConstTensorView scales);

namespace reference {
void QuantiseRows(Context& context, ConstTensorView input, TensorView codes, TensorView scales);
}  // namespace reference
namespace cpu {
void QuantiseRows(Context& context, ConstTensorView input, TensorView codes, TensorView scales);
}  // namespace cpu
namespace cuda {
class Stream;
void QuantiseRows(Stream& stream, ConstTensorView input, TensorView codes, TensorView scales);
}  // namespace cuda

}  // namespace tamias
