// The sum over a block of kWarps warps, in one order at every run.
#pragma once

#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

// In every thread. warp_sums is kWarps of shared memory that no other sum of the kernel uses.
template <int kWarps, typename T>
__device__ T BlockSum(T value, T* warp_sums) {
  value = WarpSum<32>(value);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = value;
  __syncthreads();
  T sum = 0;
  for (int w = 0; w < kWarps; ++w) sum += warp_sums[w];
  return sum;
}

}  // namespace tamias::cuda
