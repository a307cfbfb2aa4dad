// Tensors in the memory of a GPU, and copies to and from it.
#pragma once

#include "base/cuda/stream.h"
#include "tamias/tensor.h"

namespace tamias::cuda {

// Uninitialised, contiguous, 256-byte aligned. Throws kOutOfMemory.
Tensor DeviceTensor(const Shape& shape, DType dtype, int device);

// Memory of the host that the GPU reads and writes by itself while kernels run. Uninitialised,
// contiguous. Throws kOutOfMemory.
Tensor PinnedTensor(const Shape& shape, DType dtype, int device);

// Enqueues a copy between contiguous views of one shape and one dtype, on the host or on the
// stream's device. Host memory must live until the stream has been synchronised.
void Copy(Stream& stream, ConstTensorView source, TensorView destination);

// Enqueues zeroing of a contiguous view.
void Zero(Stream& stream, TensorView destination);

}  // namespace tamias::cuda
