// Which GPUs the kernels run on.
#pragma once

#include "base/cuda/device.h"

namespace tamias::cuda {

// Throws kUnsupported, naming the GPU, when its compute capability is below 8.0: the kernels use
// cp.async and bf16 products of the tensor cores, which came with it.
void CheckComputeCapability(const DeviceProperties& gpu);

}  // namespace tamias::cuda
