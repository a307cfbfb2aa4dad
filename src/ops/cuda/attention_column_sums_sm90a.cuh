// Column sums c[g, j] = sum over the rows i of a group of exp(s_ij - lse_prev_i) for compute
// capability 9.0a, from the weights that the softmax has computed: p_ij exp(m_i - lse_prev_i) with
// the maximum m_i of the same step, one multiply-add per score. A later maximum changes nothing:
// what a step adds is complete. A weight below 2^-126 is 0, and what it stands for is lost; while
// m_i - lse_prev_i is at most 64 in units of log2, that is less than 2^-62. Rows whose scores have
// moved further than that take exp(s_ij - lse_prev_i) directly, so that no column is lost and
// nothing overflows that the sum does not.
//
// A warp adds its 16 rows with shuffles and writes one line of sums. The consumers take turns
// starting products (ConsumerTurns): who starts step k knows that all others have started k - 1, so
// that their lines of step k - 2 are written. One thread per key adds them, always in the same
// order, so the sums are the same at every run. Lines of step k + 1 may be written meanwhile, which
// makes four steps of lines.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_column_sums.cuh"
#include "ops/cuda/attention_rows_sm90a.cuh"
#include "ops/cuda/attention_traits_sm90a.cuh"

namespace tamias::cuda::sm90a {

template <typename Traits>
class ColumnSums {
  using T = typename Traits::T;

 public:
  __device__ ColumnSums(const AttentionArguments<T>& arguments, unsigned char* shared)
      : arguments_(arguments), lines_(reinterpret_cast<float*>(shared + Traits::kLineOffset)) {}

  // Of the rows [row, row + 16) of this warp; those from the tile's end on count nothing.
  __device__ void Begin(const QueryTile& tile, int32_t row) {
    constexpr float kLog2E = 1.44269504f;
    const float* previous =
        arguments_.previous_log_sum_exp + int64_t{tile.head} * arguments_.queries;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int32_t i = row + static_cast<int>(threadIdx.x) % 32 / 4 + 8 * r;
      previous_log2_[r] = i < tile.end_row ? previous[i] * kLog2E : INFINITY;
    }
  }

  // Between FindMaximum and Weigh.
  __device__ void TakeFarScores(const AttentionRows<Traits>& rows, int32_t step) {
    constexpr float kFar = 64;
    float exponent[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      exponent[r] = fmaf(rows.maximum[r], arguments_.scale_log2, -previous_log2_[r]);
      factor_[r] = Exp2(exponent[r]);
    }
    is_far_ = __any_sync(kFullWarp, !(fmaxf(exponent[0], exponent[1]) <= kFar)) != 0;
    if (!is_far_) return;
    float sums[kColumns];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const float* block = rows.scores + i / 2 * 4 + i % 2;
      sums[i] = Exp2(fmaf(block[0], arguments_.scale_log2, -previous_log2_[0])) +
                Exp2(fmaf(block[2], arguments_.scale_log2, -previous_log2_[1]));
    }
    WriteLine(sums, step);
  }

  // After Weigh.
  __device__ void TakeWeights(const AttentionRows<Traits>& rows, int32_t step) {
    if (is_far_) return;
    float sums[kColumns];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const float* block = rows.scores + i / 2 * 4 + i % 2;
      sums[i] = fmaf(block[2], factor_[1], block[0] * factor_[0]);
    }
    WriteLine(sums, step);
  }

  // Keys [first, first + kKeys), whose lines are those of `step`, by the first threads of one
  // warpgroup, the same for a key in all tiles of a group. `row`: the first of the tile's rows; the
  // sums of rows of the group before it are there.
  __device__ void Add(const QueryTile& tile, int32_t row, int32_t first, int32_t step) const {
    const int column = static_cast<int>(threadIdx.x) % kWarpgroup;
    const int32_t j = first + column;
    if (column >= Traits::kKeys || j >= arguments_.keys) return;
    const float* line = LineOf(step, 0) + column;
    const int32_t warps = min(Traits::kConsumerWarps, (tile.end_row - row + 15) / 16);  // with rows
    float* to = arguments_.column_sums + int64_t{tile.item} * arguments_.keys + j;
    float sum = row > tile.first_row ? *to : 0.0f;
    for (int32_t warp = 0; warp < warps; ++warp) sum += line[warp * Traits::kKeys];
    *to = sum;
  }

 private:
  static constexpr int kColumns = Traits::kScores / 2;  // of a lane
  static constexpr int kLaneSums = kColumns / 8;        // that it has in the end

  __device__ float* LineOf(int32_t step, int warp) const {
    return lines_ + (step % Traits::kLineSteps * Traits::kConsumerWarps + warp) * Traits::kKeys;
  }

  __device__ void WriteLine(float (&sums)[kColumns], int32_t step) const {
    AddRows(sums);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    float* line = LineOf(step, static_cast<int>(threadIdx.x) / 32 - kWarpgroup / 32);
#pragma unroll
    for (int i = 0; i < kLaneSums; ++i) {
      const int place = lane / 4 * kLaneSums + i;  // two per block of eight columns
      line[place / 2 * 8 + lane % 4 * 2 + place % 2] = sums[i];
    }
  }

  const AttentionArguments<T>& arguments_;
  float* lines_;
  float previous_log2_[2];
  float factor_[2];  // exp(m - lse_prev)
  bool is_far_ = false;
};

}  // namespace tamias::cuda::sm90a
