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

template <typename Traits>
class ColumnSums {
 public:
  // to: [Nk] of the group; `lines`: kColumnSumBytes of shared memory.
  __device__ ColumnSums(float* to, int32_t keys, unsigned char* lines)
      : to_(to), keys_(keys), lines_(reinterpret_cast<float*>(lines)) {}

  // Rows [row, row + 16) of this warp; `warps` have rows at all. Rows from end_row on count
  // nothing.
  __device__ void Begin(const float* previous_log_sum_exp, int32_t row, int32_t end_row,
                        int32_t warps, bool add) {
    constexpr float kLog2E = 1.44269504f;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int32_t i = row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * r;
      previous_log2_[r] = i < end_row ? previous_log_sum_exp[i] * kLog2E : INFINITY;
    }
    warps_ = warps;
    add_ = add;
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
    AddLanes(sums);
    float* line = lines_ + (step % 2 * Traits::kWarps + warp) * Traits::kKeys;
#pragma unroll
    for (int i = 0; i < kLaneSums; ++i) {
      const int place = lane / 4 * kLaneSums + i;  // two per column block
      line[place / 2 * 8 + lane % 4 * 2 + place % 2] = sums[i];
    }
  }

  // After the barrier that follows Take of this step.
  __device__ void Write(int32_t step) const {
    const int column = static_cast<int>(threadIdx.x);
    const int64_t j = int64_t{step} * Traits::kKeys + column;
    if (column >= Traits::kKeys || j >= keys_) return;
    const float* line = lines_ + step % 2 * Traits::kWarps * Traits::kKeys + column;
    float sum = add_ ? to_[j] : 0.0f;
    for (int32_t warp = 0; warp < warps_; ++warp) sum += line[warp * Traits::kKeys];
    to_[j] = sum;
  }

 private:
  static constexpr int kColumns = 2 * Traits::kScoreBlocks;  // of a lane
  static constexpr int kLaneSums = kColumns / 8;             // that it has in the end

  // Sums over the eight lanes of one t. Lanes give away half of their columns at each of three
  // steps: 14 shuffles for 16 columns. Lane 4 g + t ends with those from g kLaneSums on.
  __device__ static void AddLanes(float (&sums)[kColumns]) {
#pragma unroll
    for (int step = 0; step < 3; ++step) {
      const int half = kColumns / 2 >> step, bit = 16 >> step;
      const bool upper = (threadIdx.x & bit) != 0;
#pragma unroll
      for (int i = 0; i < half; ++i) {
        const float given = upper ? sums[i] : sums[i + half];
        const float kept = upper ? sums[i + half] : sums[i];
        sums[i] = kept + __shfl_xor_sync(kFullWarp, given, bit);
      }
    }
  }

  float* to_;
  int32_t keys_;
  float* lines_;
  float previous_log2_[2];
  int32_t warps_ = 0;
  bool add_ = false;
};

}  // namespace tamias::cuda
