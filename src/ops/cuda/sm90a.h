// The kernels that only a GPU of compute capability 9.0 runs, behind KernelFamily::kSm90a. A build
// whose TAMIAS_CUDA_ARCHITECTURES lack 90a has without_sm90a.cc in their place.
#pragma once

#include "base/cuda/stream.h"
#include "tamias/tensor.h"

namespace tamias::cuda::sm90a {

extern const bool kIsBuilt;

// cuda::CopyContiguous (ops/copy.h) where both views begin at multiples of 16 bytes and take a
// multiple of 16 bytes.
void CopyVectors(Stream& stream, const ConstTensorView& source, const TensorView& destination);

}  // namespace tamias::cuda::sm90a
