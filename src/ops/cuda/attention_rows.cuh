// AttentionRows: one warp's 16 query rows and their running softmax, all in registers (online
// softmax, one pass over the keys). Per row: maximum m = max_j s_j, sum l = sum_j exp(s_j - m), and
// O = sum_j exp(s_j - m) v_j; a step of kKeys keys rescales l and O when m grows.
// Lane 4 g + t holds rows g and g + 8 (index r below), and of each block of eight columns 2 t and
// 2 t + 1: element 2 r + e of a block is row g + 8 r, column 2 t + e.
#pragma once

#include <cmath>
#include <cstdint>

#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/quad.cuh"

namespace tamias::cuda {

template <typename Traits>
struct AttentionRows {
  using T = typename Traits::T;

  // Left operands of mma, one per 16 head dimensions; the others are in shared memory.
  uint32_t query[Traits::kRegisterQuerySteps][4];
  float scores[Traits::kScoreBlocks][4];  // q.k of this step's keys, unscaled; then weights
  float output[Traits::kOutputBlocks][4];
  float maximum[2];  // of q.k, unscaled
  float sum[2];      // over this lane's columns only, until the end

  // Rows [row, row + 16) of a head's query; rows from end_row on are zero.
  __device__ void Begin(const T* head_query, int32_t stride, int32_t row, int32_t end_row,
                        unsigned char* shared) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4, t = static_cast<int>(threadIdx.x) % 4;
    uint32_t all[Traits::kQuerySteps][4];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int32_t i = row + g + 8 * r;
#pragma unroll
      for (int blocks = 0; blocks < Traits::kOutputBlocks; blocks += 4) {
        uint4 loaded = make_uint4(0, 0, 0, 0);
        if (i < end_row) {
          loaded =
              *reinterpret_cast<const uint4*>(head_query + int64_t{i} * stride + 8 * (blocks + t));
        }
        uint32_t words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
        QuadTranspose(words);
#pragma unroll
        for (int j = 0; j < 4; ++j) all[(blocks + j) / 2][r + j % 2 * 2] = words[j];
      }
      maximum[r] = -INFINITY;
      sum[r] = 0;
    }
#pragma unroll
    for (unsigned step = 0; step < Traits::kQuerySteps; ++step) {
      if (step >= Traits::kRegisterQuerySteps) {
        *reinterpret_cast<uint4*>(shared + QueryPlace(step)) =
            make_uint4(all[step][0], all[step][1], all[step][2], all[step][3]);
        continue;
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) query[step][e] = all[step][e];
    }
#pragma unroll
    for (int block = 0; block < Traits::kOutputBlocks; ++block) {
#pragma unroll
      for (int e = 0; e < 4; ++e) output[block][e] = 0;
    }
  }

  __device__ float Output(int block, int element) const { return output[block][element]; }

  // scores = q.k for the kKeys keys of the tile at an offset of shared memory; columns from valid
  // on get -inf. Pieces of a row are 2 step and 2 step + 1, swizzled: only bits of the address
  // below the row change from step to step, by one exclusive or that nothing is kept in registers
  // for.
  __device__ void Score(const unsigned char* shared, uint32_t key_tile, int valid) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t place = key_tile + (lane / 16 * 8 + lane % 8) * Traits::kRowBytes +
                           ((lane / 8 % 2) ^ (lane % 8)) * 16;
#pragma unroll
    for (int block = 0; block < Traits::kScoreBlocks; ++block) {
#pragma unroll
      for (int e = 0; e < 4; ++e) scores[block][e] = 0;
    }
#pragma unroll
    for (unsigned step = 0; step < Traits::kQuerySteps; ++step) {
      uint32_t left[4];
      LoadQuery(left, shared, step);
#pragma unroll
      for (int block = 0; block < Traits::kScoreBlocks; block += 2) {
        uint32_t keys[4];  // two operands: keys 8 block .. + 7 and the next eight
        LdMatrixX4(keys, shared + (place ^ (32u * step)) + 8 * block * Traits::kRowBytes);
        Mma16816<T>(scores[block], left, keys[0], keys[1]);
        Mma16816<T>(scores[block + 1], left, keys[2], keys[3]);
      }
    }
    if (valid < Traits::kKeys) Mask(valid);
  }

  // Columns from seen[r] on, which row r does not see, get -inf.
  __device__ void MaskUnseen(const int32_t (&seen)[2]) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int block = 0; block < Traits::kScoreBlocks; ++block) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (8 * block + 2 * t + e % 2 >= seen[e / 2]) scores[block][e] = -INFINITY;
      }
    }
  }

  // scores become weights exp(s - m); maximum, sum and output follow. kMayBeBlind: rows may have
  // seen no key so far; their maximum is -inf, and they keep the sum 0.
  template <bool kMayBeBlind>
  __device__ void Softmax(float scale_log2) {
    float rescale[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float largest = maximum[r];
#pragma unroll
      for (int block = 0; block < Traits::kScoreBlocks; ++block) {
        largest = fmaxf(largest, fmaxf(scores[block][2 * r], scores[block][2 * r + 1]));
      }
      largest = WarpMax<4>(largest);
      const float finite = kMayBeBlind && largest == -INFINITY ? 0.0f : largest;
      rescale[r] = Exp2((maximum[r] - finite) * scale_log2);  // 0 at the first step
      maximum[r] = largest;
      const float shift = finite * scale_log2;
      float added = 0;
#pragma unroll
      for (int block = 0; block < Traits::kScoreBlocks; ++block) {
#pragma unroll
        for (int e = 2 * r; e < 2 * r + 2; ++e) {
          scores[block][e] = Exp2(fmaf(scores[block][e], scale_log2, -shift));
          added += scores[block][e];
        }
      }
      sum[r] = sum[r] * rescale[r] + added;
    }
    // After the first steps a maximum rarely moves.
    if (__any_sync(kFullWarp, rescale[0] != 1 || rescale[1] != 1)) {
#pragma unroll
      for (int block = 0; block < Traits::kOutputBlocks; ++block) {
#pragma unroll
        for (int e = 0; e < 4; ++e) output[block][e] *= rescale[e / 2];
      }
    }
  }

  // output += weights V for the kKeys rows of the tile at an offset of shared memory.
  __device__ void Accumulate(const unsigned char* shared, uint32_t value_tile) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t place =
        value_tile + lane % 16 * Traits::kRowBytes + ((lane / 16) ^ (lane % 8)) * 16;
#pragma unroll
    for (int step = 0; step < Traits::kKeys / 16; ++step) {
      const float(&low)[4] = scores[2 * step];
      const float(&high)[4] = scores[2 * step + 1];
      const uint32_t weights[4] = {PackPair<T>(low[0], low[1]), PackPair<T>(low[2], low[3]),
                                   PackPair<T>(high[0], high[1]), PackPair<T>(high[2], high[3])};
#pragma unroll
      for (unsigned block = 0; block < Traits::kOutputBlocks; block += 2) {
        uint32_t values[4];  // two operands: columns 8 block .. + 7 and the next eight
        LdMatrixX4Transposed(values,
                             shared + (place ^ (16u * block)) + 16 * step * Traits::kRowBytes);
        Mma16816<T>(output[block], weights, values[0], values[1]);
        Mma16816<T>(output[block + 1], weights, values[2], values[3]);
      }
    }
  }

 private:
  // The place of a step's operand of this thread in shared memory.
  __device__ static unsigned QueryPlace(unsigned step) {
    return Traits::kQueryOffset +
           ((step - Traits::kRegisterQuerySteps) * Traits::kThreads + threadIdx.x) * 16;
  }

  __device__ void LoadQuery(uint32_t (&left)[4], const unsigned char* shared, unsigned step) const {
    if (step < Traits::kRegisterQuerySteps) {
#pragma unroll
      for (int e = 0; e < 4; ++e) left[e] = query[step][e];
    } else {
      const uint4 piece = *reinterpret_cast<const uint4*>(shared + QueryPlace(step));
      left[0] = piece.x, left[1] = piece.y, left[2] = piece.z, left[3] = piece.w;
    }
  }

  __device__ void Mask(int valid) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int block = 0; block < Traits::kScoreBlocks; ++block) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (8 * block + 2 * t + e % 2 >= valid) scores[block][e] = -INFINITY;
      }
    }
  }
};

}  // namespace tamias::cuda
