// The gated residual connection of adaptive layer norm blocks (DiT, arXiv 2212.09748):
// x[b, n, :] += gate[b, :] * y[b, n, :].
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// x, y [B, N, d] f32, any strides with last stride 1; gate [B, d] f32, last stride 1.
void GatedResidual(Context& context, TensorView x, ConstTensorView gate, ConstTensorView y);

namespace reference {
void GatedResidual(Context& context, TensorView x, ConstTensorView gate, ConstTensorView y);
}  // namespace reference
namespace cpu {
void GatedResidual(Context& context, TensorView x, ConstTensorView gate, ConstTensorView y);
}  // namespace cpu

// On a GPU: x, gate and y each f32, f16 or bf16; d a multiple of 8, rows begin at multiples of 16
// bytes. Returns once the work is enqueued.
namespace cuda {
class Stream;
void GatedResidual(Stream& stream, TensorView x, ConstTensorView gate, ConstTensorView y);
}  // namespace cuda

}  // namespace tamias
