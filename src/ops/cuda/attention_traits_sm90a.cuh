// What the parts of the attention kernel for compute capability 9.0a agree on: sizes, the places in
// shared memory, mbarriers, and the tiles that a block works on.
#pragma once

#include <cstdint>

#include "base/cuda/runtime.cuh"
#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/primitives_sm90a.cuh"

namespace tamias::cuda::sm90a {

constexpr int kWarpgroup = 128;  // threads

// A block is one warpgroup that loads (the producer) and two or three that multiply (consumers), of
// 64 query rows each: 192 rows are the published group, so that K and V are gathered once per
// group. A consumer of three may use 160 registers: 64 of output for D = 128, 32 of scores and 16
// of weights for 64 keys. With more keys a step the scores of the next step and the output of this
// one no longer fit together, and their products would wait for each other.
template <typename T_, int kHeadDim_, int kConsumers_>
struct AttentionTraits {
  using T = T_;                                   // BFloat16 or Float16
  static constexpr int kHeadDim = kHeadDim_;      // D
  static constexpr int kConsumers = kConsumers_;  // warpgroups
  static constexpr int kConsumerWarps = 4 * kConsumers;
  static constexpr int kThreads = kWarpgroup * (1 + kConsumers);
  static constexpr int kRows = 64 * kConsumers;            // query rows of a tile
  static constexpr int kKeys = 64;                         // keys of one step of the main loop
  static constexpr int kStages = kHeadDim == 128 ? 5 : 8;  // steps of K and V in shared memory
  // Of 65,536: 512 threads begin with 128 each, 384 with 168.
  static constexpr int kProducerRegisters = 56;
  static constexpr int kConsumerRegisters = kConsumers == 3 ? 152 : 224;

  static constexpr int kRowPieces = kHeadDim / 8;     // of 16 bytes
  static constexpr int kOutputBlocks = kHeadDim / 8;  // of eight columns
  static constexpr int kScores = kKeys / 2;           // of a thread in one step
  static constexpr int kOutputs = kHeadDim / 2;       // of a thread

  // Operands of products: D / 64 blocks of 64 columns (primitives_sm90a.cuh).
  static constexpr uint32_t kKeyBlockBytes = kKeys * kOperandRowBytes;
  static constexpr uint32_t kQueryBlockBytes = 64 * kOperandRowBytes;
  static constexpr uint32_t kTileBytes = kHeadDim / 64 * kKeyBlockBytes;     // K or V of a step
  static constexpr uint32_t kQueryBytes = kHeadDim / 64 * kQueryBlockBytes;  // of a consumer

  // Shared memory: K, V, query, lines of column sums, mbarriers.
  static constexpr uint32_t kValueOffset = kStages * kTileBytes;
  static constexpr uint32_t kQueryOffset = 2 * kStages * kTileBytes;
  static constexpr uint32_t kLineOffset = kQueryOffset + kConsumers * kQueryBytes;
  static constexpr int kLineSteps = 4;  // attention_column_sums_sm90a.cuh says why
  static constexpr uint32_t kLineBytes = kLineSteps * kConsumerWarps * kKeys * 4;

  static_assert(kHeadDim == 64 || kHeadDim == 128);
  static_assert(kConsumers == 2 || kConsumers == 3);
};

// The mbarriers: a stage of K or V and the query are full (the producer's copies have landed) or
// empty (every consumer warp is done with them).
template <typename Traits>
class AttentionBarriers {
 public:
  static constexpr uint32_t kBytes = (4 * Traits::kStages + 2) * sizeof(uint64_t);

  __device__ explicit AttentionBarriers(unsigned char* memory)
      : first_(reinterpret_cast<uint64_t*>(memory)) {}

  __device__ uint64_t* FullKeys(int stage) const { return first_ + stage; }
  __device__ uint64_t* FullValues(int stage) const { return first_ + Traits::kStages + stage; }
  __device__ uint64_t* EmptyKeys(int stage) const { return first_ + 2 * Traits::kStages + stage; }
  __device__ uint64_t* EmptyValues(int stage) const { return first_ + 3 * Traits::kStages + stage; }
  __device__ uint64_t* FullQuery() const { return first_ + 4 * Traits::kStages; }
  __device__ uint64_t* EmptyQuery() const { return first_ + 4 * Traits::kStages + 1; }

  // By one thread.
  __device__ void Init() const {
    for (int stage = 0; stage < Traits::kStages; ++stage) {
      MbarrierInit(FullKeys(stage), kWarpgroup);
      MbarrierInit(FullValues(stage), kWarpgroup);
      MbarrierInit(EmptyKeys(stage), Traits::kConsumerWarps);
      MbarrierInit(EmptyValues(stage), Traits::kConsumerWarps);
    }
    MbarrierInit(FullQuery(), kWarpgroup);
    MbarrierInit(EmptyQuery(), Traits::kConsumerWarps);
    FenceMbarrierInit();
  }

 private:
  uint64_t* first_;
};

// A step's stage and the parity of the phase in which it is full there; steps are counted over all
// tiles of the block.
template <typename Traits>
struct StageOf {
  __device__ explicit StageOf(int32_t step)
      : stage(step % Traits::kStages), parity(step / Traits::kStages % 2) {}
  int stage;
  uint32_t parity;
};

// The tiles of a block, one after another: blockIdx.x, blockIdx.x + gridDim.x, ... of the schedule,
// so that a list that is long keeps one multiprocessor busy while the others go on. Producer and
// consumers walk alike.
template <typename Traits, AttentionKeys kKeyChoice>
class TileWalk {
  using T = typename Traits::T;

 public:
  __device__ TileWalk(const AttentionArguments<T>& arguments, int32_t tiles)
      : arguments_(arguments), next_(static_cast<int32_t>(blockIdx.x)), tiles_(tiles) {}

  // The next rows [row(), min(row() + kRows, tile.end_row)), or false. A tile of many rows is
  // walked kRows at a time.
  __device__ bool Next() {
    row_ += Traits::kRows;
    while (row_ >= tile_.end_row) {
      if (next_ >= tiles_) return false;
      tile_ = arguments_.schedule.At(next_);
      next_ += static_cast<int32_t>(gridDim.x);
      row_ = tile_.first_row;
    }
    return true;
  }

  __device__ const QueryTile& tile() const { return tile_; }
  __device__ int32_t row() const { return row_; }
  __device__ int32_t Keys() const { return KeysOf<kKeyChoice>(arguments_, tile_); }

 private:
  const AttentionArguments<T>& arguments_;
  QueryTile tile_ = {};
  int32_t row_ = 0;
  int32_t next_, tiles_;
};

}  // namespace tamias::cuda::sm90a
