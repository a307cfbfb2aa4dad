// Copies chosen columns between two row-aligned tensors:
// destination[r, i] = source[r, i] for i in indices[r, :counts[r]].
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// source, destination [R, N] f32, last stride 1; indices [R, capacity] i32, each in [0, N);
// counts [R] i32, <= capacity. Throws kInvalidArgument for an index or a count out of range.
void CopyIndices(Context& context, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination);

namespace reference {
void CopyIndices(Context& context, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination);
}  // namespace reference
namespace cpu {
void CopyIndices(Context& context, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination);
}  // namespace cpu

// On a GPU: f32, f16 or bf16, both alike. The lists lie on the device and are not checked: counts
// beyond the capacity end there, indices out of range copy nothing. Returns once the work is
// enqueued.
namespace cuda {
class Stream;
void CopyIndices(Stream& stream, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination);
}  // namespace cuda

}  // namespace tamias
