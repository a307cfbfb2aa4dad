// Dynamic shared memory of a block, aligned to 1024 bytes; its size is LaunchShape's
// shared_bytes.
#pragma once

#include "base/cuda/runtime.cuh"

namespace tamias::cuda {

__device__ __forceinline__ unsigned char* SharedMemory() {
#ifdef TAMIAS_CUDA_EMULATION
  return reinterpret_cast<unsigned char*>(cuda_emulator::DynamicSharedMemory());
#else
  extern __shared__ __align__(1024) unsigned char tamias_shared_memory[];
  return tamias_shared_memory;
#endif
}

}  // namespace tamias::cuda
