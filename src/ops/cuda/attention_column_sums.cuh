// Column sums c[g, j] = sum over the rows i of a group of exp(s_ij - lse_prev_i), as a by-product
// of the scores. A warp adds its 16 rows with shuffles, writes one line of sums to shared
// memory, and after the next barrier of the main loop one thread per key adds the lines: always in
// the same order, so the sums are the same at every run. The lines are double-buffered, which
// spares a second barrier.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_rows.cuh"
#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

// Of 16 rows of a warp: sums over the eight lanes of one t. Lanes give away half of their columns
// at each of three steps: 14 shuffles for 16 columns. Lane 4 g + t ends with those from g kColumns
// / 8 on.
template <int kColumns>
__device__ __forceinline__ void AddRows(float (&sums)[kColumns]) {
#pragma unroll
  for (int step = 0; step < 3; ++step) {
    const int half = kColumns / 2 >> step, bit = 16 >> step;
    const bool upper = (threadIdx.x & bit) != 0;
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) {
      if (i >= half) continue;
      const float given = upper ? sums[i] : sums[i + half];
      const float kept = upper ? sums[i + half] : sums[i];
      sums[i] = kept + __shfl_xor_sync(kFullWarp, given, bit);
    }
  }
}

template <typename Traits>
class ColumnSums {
 public:
  using T = typename Traits::T;

  // `lines`: kColumnSumBytes of shared memory.
  __device__ ColumnSums(const BlockWork<T>& work, unsigned char* lines)
      : work_(work), lines_(reinterpret_cast<float*>(lines)) {}

  // Of the rows [row, row + 16) of this warp of a head; those from the tile's end on count nothing.
  __device__ void Begin(const float* previous_log_sum_exp, int32_t row) {
    constexpr float kLog2E = 1.44269504f;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int32_t i = row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * r;
      previous_log2_[r] = i < work_.tile.end_row ? previous_log_sum_exp[i] * kLog2E : INFINITY;
    }
  }

  // After AttentionRows::Score of a step.
  __device__ void Take(const AttentionRows<Traits>& rows, float scale_log2, int32_t step) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    float sums[kColumns];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const float(&block)[4] = rows.scores[i / 2];
      sums[i] = Exp2(fmaf(block[i % 2], scale_log2, -previous_log2_[0])) +
                Exp2(fmaf(block[2 + i % 2], scale_log2, -previous_log2_[1]));
    }
    AddRows(sums);
    float* line = lines_ + (step % 2 * Traits::kWarps + warp) * Traits::kKeys;
#pragma unroll
    for (int i = 0; i < kLaneSums; ++i) {
      const int place = lane / 4 * kLaneSums + i;  // two per column block
      line[place / 2 * 8 + lane % 4 * 2 + place % 2] = sums[i];
    }
  }

  // After the barrier that follows Take of this step. `row` is the first of all warps: their sums
  // are added to those of the rows of the group before it.
  __device__ void Write(int32_t step, int32_t row) const {
    const int column = static_cast<int>(threadIdx.x);
    const int32_t j = step * Traits::kKeys + column;
    if (column >= Traits::kKeys || j >= work_.keys) return;
    const float* line = lines_ + step % 2 * Traits::kWarps * Traits::kKeys + column;
    const int32_t warps = min(Traits::kWarps, (work_.tile.end_row - row + 15) / 16);  // with rows
    float sum = row > work_.tile.first_row ? work_.column_sums[j] : 0.0f;
    for (int32_t warp = 0; warp < warps; ++warp) sum += line[warp * Traits::kKeys];
    work_.column_sums[j] = sum;
  }

  // By all threads: the sums of keys from `begin` to `end` are 0.
  __device__ void Clear(int32_t begin, int32_t end) const {
    for (int32_t j = begin + static_cast<int32_t>(threadIdx.x); j < end; j += Traits::kThreads) {
      work_.column_sums[j] = 0;
    }
  }

 private:
  static constexpr int kColumns = 2 * Traits::kScoreBlocks;  // of a lane
  static constexpr int kLaneSums = kColumns / 8;             // that it has in the end

  const BlockWork<T>& work_;
  float* lines_;
  float previous_log2_[2];
};

}  // namespace tamias::cuda
