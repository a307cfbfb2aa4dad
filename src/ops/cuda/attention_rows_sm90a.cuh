// The 64 query rows of a consumer warpgroup and their running softmax, in registers, as in
// attention_rows.cuh; of each warp 16. The products are asynchronous: Start... begins one, and its
// result is there after the wait. A thread's scores and outputs lie as those of mma: element 4 b +
// 2 r + e is row g + 8 r, column 8 b + 2 t + e, so that weights become the left operand of the
// product with V without leaving the registers.
#pragma once

#include <cmath>
#include <cstdint>

#include "ops/cuda/attention_traits_sm90a.cuh"
#include "ops/cuda/primitives_sm90a.cuh"

namespace tamias::cuda::sm90a {

template <typename Traits>
struct AttentionRows {
  using T = typename Traits::T;

  float scores[Traits::kScores];  // q.k of a step's keys, unscaled; then weights
  uint32_t weights[Traits::kScores / 2];
  float output[Traits::kOutputs];
  float maximum[2];  // of q.k, unscaled
  float sum[2];      // over this lane's columns only, until the end
  float rescale[2];  // of the output, by the latest step

  __device__ void Begin() {
#pragma unroll
    for (int i = 0; i < Traits::kOutputs; ++i) output[i] = 0;
#pragma unroll
    for (int r = 0; r < 2; ++r) maximum[r] = -INFINITY, sum[r] = 0;
  }

  __device__ float Output(int block, int element) const { return output[4 * block + element]; }

  // scores = q.k; the operands described are of the first 16 head dimensions.
  __device__ void StartScores(uint64_t query, uint64_t keys) {
    constexpr auto kAlong = OperandLayout::kAlongDepth;
    FenceAsyncProxy();
    WgmmaFence();
#pragma unroll
    for (uint32_t depth = 0; depth < Traits::kHeadDim; depth += 16) {
      const uint32_t block = depth / 64, within = depth % 64 * sizeof(T);
      WgmmaFromShared<T, Traits::kKeys, kAlong, kAlong>(
          scores, Advance(query, block * Traits::kQueryBlockBytes + within),
          Advance(keys, block * Traits::kKeyBlockBytes + within), depth > 0);
    }
    WgmmaCommit();
  }

  // output += weights V; the operand described is of the first 16 keys.
  __device__ void StartOutput(uint64_t values) {
    constexpr auto kAcross = OperandLayout::kAcrossDepth;
    FenceAsyncProxy();
    WgmmaFence();
#pragma unroll
    for (uint32_t key = 0; key < Traits::kKeys; key += 16) {
      const uint32_t* left = weights + key / 4;
      const uint32_t operand[4] = {left[0], left[1], left[2], left[3]};
      WgmmaFromRegisters<T, Traits::kHeadDim, kAcross>(
          output, operand, Advance(values, key * kOperandRowBytes), true);
    }
    WgmmaCommit();
  }

  // Columns from valid on get -inf.
  __device__ void Mask(int valid) {
    if (valid >= Traits::kKeys) return;
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < Traits::kScores; ++i) {
      if (i / 4 * 8 + 2 * t + i % 2 >= valid) scores[i] = -INFINITY;
    }
  }

  __device__ void FindMaximum(float scale_log2) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = maximum[r];
#pragma unroll
      for (int i = 2 * r; i < Traits::kScores; i += 4) {
        largest = fmaxf(largest, fmaxf(scores[i], scores[i + 1]));
      }
      largest = WarpMax<4>(largest);
      rescale[r] = Exp2((maximum[r] - largest) * scale_log2);  // 0 at the first step
      maximum[r] = largest;
    }
  }

  // After FindMaximum: scores become weights exp(s - m), and the sum follows.
  __device__ void Weigh(float scale_log2) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float shift = maximum[r] * scale_log2;
      float added = 0;
#pragma unroll
      for (int i = 0; i < Traits::kScores; ++i) {
        if (i % 4 / 2 != r) continue;
        scores[i] = Exp2(fmaf(scores[i], scale_log2, -shift));
        added += scores[i];
      }
      sum[r] = sum[r] * rescale[r] + added;
    }
  }

  // When no product uses the weights or the output.
  __device__ void PackWeights() {
#pragma unroll
    for (int i = 0; i < Traits::kScores / 2; ++i) {
      weights[i] = PackPair<T>(scores[2 * i], scores[2 * i + 1]);
    }
  }
  __device__ void RescaleOutput() {
    // After the first steps a maximum rarely moves.
    if (!__any_sync(kFullWarp, rescale[0] != 1 || rescale[1] != 1)) return;
#pragma unroll
    for (int i = 0; i < Traits::kOutputs; ++i) output[i] *= rescale[i / 2 % 2];
  }
};

}  // namespace tamias::cuda::sm90a
