// What becomes of a warp's rows at the end: normalised and written, added to a base, or merged with
// it by log-sum-exp (the three forms of SparseAttentionEpilogue). Rows leave in pieces of 16 bytes.
// An element of the base is read by the thread that writes it, so the base may be the output.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/quad.cuh"

namespace tamias::cuda {

// The factors of the sum of weighted values and of the base.
struct RowFactors {
  float attended;
  float base;
};

// The weights of two partitions of the keys; an empty one has lse = -inf.
__device__ __forceinline__ RowFactors MergeFactors(float lse, float base_lse) {
  constexpr float kLog2E = 1.44269504f;
  const float larger = fmaxf(lse, base_lse);
  if (isinf(larger)) return {0, 0};
  const float a = Exp2((lse - larger) * kLog2E), b = Exp2((base_lse - larger) * kLog2E);
  return {a / (a + b), b / (a + b)};
}

// Eight elements of a row: to = factors.attended * values + factors.base * base.
template <typename T>
__device__ __forceinline__ void WritePiece(const float (&values)[8], const RowFactors& factors,
                                           const uint4& base, T* to) {
  const uint32_t words[4] = {base.x, base.y, base.z, base.w};
  float result[8];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = UnpackPair<T>(words[i]);
    result[2 * i] = factors.attended * values[2 * i] + factors.base * pair.x;
    result[2 * i + 1] = factors.attended * values[2 * i + 1] + factors.base * pair.y;
  }
  *reinterpret_cast<uint4*>(to) =
      make_uint4(PackPair<T>(result[0], result[1]), PackPair<T>(result[2], result[3]),
                 PackPair<T>(result[4], result[5]), PackPair<T>(result[6], result[7]));
}

// Rows [row, min(row + 16, end_row)) of a head; those of a warp, in registers: maximum[2], sum[2]
// and Output(block, e), as in attention_rows.cuh.
template <typename Traits, typename Rows>
__device__ __forceinline__ void WriteRows(const Rows& rows,
                                          const AttentionArguments<typename Traits::T>& arguments,
                                          int32_t head, int32_t row, int32_t end_row) {
  using T = typename Traits::T;
  constexpr float kLn2 = 0.693147181f;
  const int g = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int32_t i = row + g + 8 * r;
    const bool writes = i < end_row;
    const int32_t grouped_row = i - arguments.schedule.dense_rows;
    const bool is_grouped = writes && grouped_row >= 0;
    const int64_t row_of_all = int64_t{head} * arguments.schedule.rows + grouped_row;
    const float sum = WarpSum<4>(rows.sum[r]);
    const float lse =
        sum > 0 ? (rows.maximum[r] * arguments.scale_log2 + Log2(sum)) * kLn2 : -INFINITY;
    RowFactors factors{is_grouped ? arguments.output_scale : 1.0f, 1};
    if (arguments.base_log_sum_exp != nullptr && is_grouped) {
      factors = MergeFactors(lse, arguments.base_log_sum_exp[row_of_all]);
    }
    factors.attended = sum > 0 ? factors.attended / sum : 0.0f;
    T* to = HeadOf(arguments.output, arguments.output_strides, head, arguments.heads) +
            int64_t{i} * arguments.output_strides.row + 8 * t;
    const T* base = arguments.base == nullptr || !is_grouped
                        ? nullptr
                        : HeadOf(arguments.base, arguments.base_strides, head, arguments.heads) +
                              int64_t{grouped_row} * arguments.base_strides.row + 8 * t;
    // All at once: one access after another would wait for each.
    uint4 before[Traits::kOutputBlocks / 4];
#pragma unroll
    for (int j = 0; j < Traits::kOutputBlocks / 4; ++j) {
      before[j] =
          base != nullptr ? *reinterpret_cast<const uint4*>(base + 32 * j) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int block = 0; block < Traits::kOutputBlocks; block += 4) {
      float even[4], odd[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        even[j] = rows.Output(block + j, 2 * r);
        odd[j] = rows.Output(block + j, 2 * r + 1);
      }
      QuadTranspose(even);
      QuadTranspose(odd);
      const float values[8] = {even[0], odd[0], even[1], odd[1], even[2], odd[2], even[3], odd[3]};
      if (writes) WritePiece(values, factors, before[block / 4], to + 8 * block);
    }
    if (is_grouped && t == 0 && arguments.log_sum_exp != nullptr) {
      arguments.log_sum_exp[row_of_all] = lse;
    }
  }
}

}  // namespace tamias::cuda
