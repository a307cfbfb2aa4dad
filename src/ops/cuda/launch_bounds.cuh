// The most threads that a block of a kernel may have. Every kernel says it twice:
//   __global__ void __launch_bounds__(kThreads) Kernel(...) {
//     CheckLaunchBounds<kThreads>();
// With the first nvcc keeps threads x registers within a multiprocessor's 65,536, and a GPU refuses
// larger blocks; the second is nothing on a GPU, and makes the emulator refuse them, too
// (tests/repository/test_cuda_kernels.py compares the two).
#pragma once

#include "base/cuda/runtime.cuh"

namespace tamias::cuda {

template <int kThreads>
__device__ __forceinline__ void CheckLaunchBounds() {
#ifdef TAMIAS_CUDA_EMULATION
  cuda_emulator::CheckLaunchBounds(kThreads);
#endif
}

}  // namespace tamias::cuda
