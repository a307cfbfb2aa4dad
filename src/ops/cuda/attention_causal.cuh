// What the rows of a causal call see: query i keys 0 to i + (Nk - Nq). Key lists ascend, so that it
// is a prefix of the list of a group, too, and a number says it: how many keys from the list's
// start on. A binary search finds it once per row and tile; the main loop compares positions only.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

// How many of the first `count` keys of a list (without one: of the head) query i sees.
template <bool kListed, typename T>
__device__ int32_t SeenKeys(const AttentionArguments<T>& arguments, const int32_t* indices,
                            int32_t count, int32_t i) {
  const int32_t end = arguments.keys - arguments.queries + i + 1;
  int32_t seen = min(count, end);
  if constexpr (kListed) {
    int32_t begin = 0;  // the first key from `end` on lies in [begin, seen] of the list
    while (begin < seen) {
      const int32_t middle = begin + (seen - begin) / 2;
      if (__ldg(indices + middle) < end) {
        begin = middle + 1;
      } else {
        seen = middle;
      }
    }
  }
  return seen;
}

// Of a lane's two rows of the 16 from `row` on; rows past the tile's end count as its last.
struct LaneSeenKeys {
  int32_t of_row[2];
  int32_t of_warp;  // what the last of the 16 rows sees, which sees most

  template <bool kListed, typename T>
  __device__ void Find(const AttentionArguments<T>& arguments, const BlockWork<T>& work,
                       int32_t row) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int32_t i = min(row + g + 8 * r, work.tile.end_row - 1);
      of_row[r] = SeenKeys<kListed>(arguments, work.indices, work.keys, i);
    }
    of_warp = __shfl_sync(kFullWarp, of_row[1], 31);
  }
};

}  // namespace tamias::cuda
