// Transposing 4 x 4 numbers among the four lanes of a quad (lanes 4 g .. 4 g + 3). In mma operands
// a lane holds two neighbours of each block of eight columns; after the transposition of four
// blocks it holds all eight of one block, which is 16 bytes of bf16 or f16: one load or store.
#pragma once

#include <cstdint>

#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

// Element i of lane t becomes element t of lane i.
template <typename Word>
__device__ __forceinline__ void QuadTranspose(Word (&words)[4]) {
#pragma unroll
  for (int bit = 1; bit <= 2; bit *= 2) {
    const bool upper = (threadIdx.x & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      const Word received = __shfl_xor_sync(kFullWarp, upper ? words[i] : words[i + bit], bit);
      (upper ? words[i] : words[i + bit]) = received;
    }
  }
}

}  // namespace tamias::cuda
