// An element-wise copy on the context's device: destination[i...] = source[i...].
#pragma once

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

// Both of one shape and one dtype (any), with any strides, in memory that does not overlap. On a
// GPU: returns once the work is enqueued. Between the host and a GPU: base/device_memory.h.
void Copy(Context& context, ConstTensorView source, TensorView destination);

namespace reference {
void Copy(Context& context, ConstTensorView source, TensorView destination);
}  // namespace reference
namespace cpu {
void Copy(Context& context, ConstTensorView source, TensorView destination);
}  // namespace cpu

namespace cuda {
class Stream;
void CopyContiguous(Stream& stream, ConstTensorView source, TensorView destination);
void CopyStrided(Stream& stream, ConstTensorView source, TensorView destination);
}  // namespace cuda

}  // namespace tamias
