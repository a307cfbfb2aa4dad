// An element-wise copy on the context's device: destination[i...] = source[i...].
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Both of one shape and one dtype (any), with any strides, in memory that does not overlap. On a
// GPU: returns once the work is enqueued. Between the host and a GPU: tamias/device_memory.h.
void Copy(Context& context, ConstTensorView source, TensorView destination);

}  // namespace tamias
