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
  __device__ KeyPipeline(const AttentionArguments<T>& arguments, const BlockWork<T>& work,
                         unsigned char* shared)
      : arguments_(arguments),
        work_(work),
        to_(shared + Row() * Traits::kRowBytes + (Piece() ^ (Row() % 8)) * 16) {
    ReadIndices(0);
  }

  // Starts copying a step into its stage and closes the group of copies; steps come in order. Past
  // the last step the group is empty, so that the number of groups tells the step.
  __device__ void Load(int32_t step) {
    if (step * Traits::kKeys < work_.keys) {
      unsigned char* to = to_ + step % Traits::kStages * Traits::kStageBytes;
#pragma unroll
      for (int i = 0; i < Traits::kLoads; ++i) {
        if (Row() + i * Traits::kLoadRows >= Traits::kKeys) continue;
        const int32_t row = kGather ? rows_[i] : Position(step, i);
        const bool valid = Position(step, i) < work_.keys;  // no key: zeros, which weigh nothing
        const int64_t from = valid ? row : 0;
        unsigned char* place = to + i * Traits::kLoadRows * Traits::kRowBytes;
        const int piece = 8 * Piece();
        CpAsync16(place, work_.key + from * arguments_.key_strides.row + piece, valid);
        CpAsync16(place + Traits::kTileBytes,
                  work_.value + from * arguments_.value_strides.row + piece, valid);
      }
      ReadIndices(step + 1);
    }
    CpAsyncCommit();
  }

 private:
  __device__ static int Row() { return static_cast<int>(threadIdx.x) / Traits::kRowChunks; }
  __device__ static int Piece() { return static_cast<int>(threadIdx.x) % Traits::kRowChunks; }

  // Of this thread's i-th row of a step, in the list.
  __device__ static int32_t Position(int32_t step, int i) {
    return step * Traits::kKeys + Row() + i * Traits::kLoadRows;
  }

  // The rows of a step, read one step ahead of their use: the copies depend on them.
  __device__ void ReadIndices(int32_t step) {
    if constexpr (kGather) {
#pragma unroll
      for (int i = 0; i < Traits::kLoads; ++i) {
        const int32_t position = Position(step, i);
        if (position >= work_.keys) continue;
        rows_[i] = work_.indices == nullptr ? position : __ldg(work_.indices + position);
      }
    }
  }

  const AttentionArguments<T>& arguments_;
  const BlockWork<T>& work_;
  unsigned char* to_;
  int32_t rows_[Traits::kLoads] = {};
};

}  // namespace tamias::cuda
