// PrefetchL2(address): the line of 128 bytes around a readable address comes into the L2 cache
// while the thread goes on. The emulator, which has no caches, does nothing.
#pragma once

#include "base/cuda/runtime.cuh"

namespace tamias::cuda {

__device__ __forceinline__ void PrefetchL2([[maybe_unused]] const void* address) {
#ifndef TAMIAS_CUDA_EMULATION
  asm volatile("prefetch.global.L2 [%0];\n" ::"l"(address));
#endif
}

}  // namespace tamias::cuda
