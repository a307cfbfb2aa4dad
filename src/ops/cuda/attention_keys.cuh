// KeyPipeline: rows of K and V on their way from global to shared memory. The keys are 0 .. Nk - 1,
// or those that an index list names: the gather happens in the copy, row by row, 16 bytes per
// thread with cp.async, and costs one index per row. A tile in shared memory is [kKeys][D], its
// pieces of 16 bytes swizzled: piece c of row r lies at c ^ (r mod 8), so that eight rows of one
// column of pieces, what ldmatrix reads at once, lie in different banks.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

template <typename Traits, bool kGather>
class KeyPipeline {
  using T = typename Traits::T;

 public:
  // indices: the list of `count` keys, unused unless kGather.
  __device__ KeyPipeline(const T* key, int64_t key_stride, const T* value, int64_t value_stride,
                         const int32_t* indices, int32_t count, unsigned char* shared)
      : key_(key + Piece() * 8),
        value_(value + Piece() * 8),
        key_stride_(key_stride),
        value_stride_(value_stride),
        indices_(indices),
        count_(count),
        to_(shared + Row() * Traits::kRowBytes + (Piece() ^ (Row() % 8)) * 16) {
    ReadIndices();
  }

  // Starts copying the next step into a stage and closes the group of copies. Past the last step
  // the group is empty, so that the number of groups tells the step.
  __device__ void LoadNext(int stage) {
    if (step_ * Traits::kKeys < count_) {
      unsigned char* to = to_ + stage * Traits::kStageBytes;
#pragma unroll
      for (int i = 0; i < Traits::kLoads; ++i) {
        if (Row() + i * Traits::kLoadRows >= Traits::kKeys) continue;
        const bool valid = rows_[i] >= 0;  // no key: zeros, which weigh nothing
        const int64_t row = valid ? rows_[i] : 0;
        unsigned char* place = to + i * Traits::kLoadRows * Traits::kRowBytes;
        CpAsync16(place, key_ + row * key_stride_, valid);
        CpAsync16(place + Traits::kTileBytes, value_ + row * value_stride_, valid);
      }
      ++step_;
      ReadIndices();
    }
    CpAsyncCommit();
  }

 private:
  __device__ static int Row() { return static_cast<int>(threadIdx.x) / Traits::kRowChunks; }
  __device__ static int Piece() { return static_cast<int>(threadIdx.x) % Traits::kRowChunks; }

  // The rows of the next step, read one step ahead of their use: the copies depend on them.
  __device__ void ReadIndices() {
#pragma unroll
    for (int i = 0; i < Traits::kLoads; ++i) {
      const int32_t position = step_ * Traits::kKeys + Row() + i * Traits::kLoadRows;
      if (position >= count_) {
        rows_[i] = -1;
      } else if constexpr (kGather) {
        rows_[i] = __ldg(indices_ + position);
      } else {
        rows_[i] = position;
      }
    }
  }

  const T* key_;
  const T* value_;
  int64_t key_stride_, value_stride_;
  const int32_t* indices_;
  int32_t count_;
  unsigned char* to_;
  int32_t step_ = 0;
  int32_t rows_[Traits::kLoads];
};

}  // namespace tamias::cuda
