// GPUs of this machine: see the header.
#include "base/cuda/device.h"

#include "base/check.h"
#include "base/cuda/error.cuh"

namespace tamias::cuda {

int DeviceCount() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();  // no driver is an answer, not an error
  return 0;
}

DeviceProperties PropertiesOf(int device) {
  const int count = DeviceCount();
  if (count == 0) {
    Fail(ErrorCode::kDevice, "GPU {}: this machine has no GPU, or no driver for it", device);
  }
  if (device < 0 || device >= count) {
    Fail(ErrorCode::kInvalidArgument, "GPU {}: this machine has {}", device, count);
  }
  cudaDeviceProp properties{};
  Check(cudaGetDeviceProperties(&properties, device), "reading a GPU's properties");
  return {.name = properties.name,
          .compute_capability = 10 * properties.major + properties.minor,
          .multiprocessors = properties.multiProcessorCount,
          .memory_bytes = properties.totalGlobalMem,
          .shared_bytes_per_block = properties.sharedMemPerBlockOptin};
}

size_t FreeMemoryBytes(int device) {
  PropertiesOf(device);
  const DeviceScope scope(device);
  size_t free = 0, total = 0;
  Check(cudaMemGetInfo(&free, &total), "asking for a GPU's free memory");
  return free;
}

}  // namespace tamias::cuda
