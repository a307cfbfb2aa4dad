// GPUs below 8.0 (before the A100) are refused by name: they lack cp.async and bf16 products.
#include "base/cuda/compute_capability.h"

#include "base/check.h"

namespace tamias::cuda {

void CheckComputeCapability(const DeviceProperties& gpu) {
  constexpr int kLeast = 80;
  if (gpu.compute_capability >= kLeast) return;
  Fail(ErrorCode::kUnsupported, "{} (compute capability {}.{}): 8.0 or later is needed", gpu.name,
       gpu.compute_capability / 10, gpu.compute_capability % 10);
}

}  // namespace tamias::cuda
