// What products with gathered rows share on compute capability 9.0: a block of three warpgroups, of
// which the first copies operands to shared memory (cp.async, 16 bytes a thread, every thread to an
// address of its own: rows are gathered by the way) and two multiply them on the tensor cores
// (wgmma). Between them goes a ring of stages of 64 along the contraction. Blocks stay for as long
// as there are tiles, so that copies of a block's next tile run during the epilogue of this one.
#pragma once

#include <algorithm>

#include "ops/cuda/check_operand.h"
#include "ops/cuda/clusters_sm90a.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/primitives_sm90a.cuh"
#include "ops/cuda/product_schedule.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda::sm90a {

// A stage has 256 lines of one operand (rows of A or columns of B) and 128 of the other: at 64
// along the contraction 48 KiB for 2 x 64 x 256 sums in the registers of each consumer. Four
// stages, of which the consumers hold two, are as many as fit 227 KiB.
struct StagedTile {
  static constexpr int kWideLines = 256, kNarrowLines = 128;
  static constexpr int kDepth = 64;
  static constexpr int kStages = 4;
  static constexpr int kWarpgroup = 128;  // threads
  static constexpr int kConsumers = 2;    // warpgroups
  static constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
  // 56 x 128 + 224 x 256 of the 65,536 registers; a consumer's sums are 128 of its 224.
  static constexpr int kProducerRegisters = 56, kConsumerRegisters = 224;
  static constexpr int kBlockBytes = kDepth * static_cast<int>(kOperandRowBytes);  // 64 x 64
  static constexpr int kWideBytes = kWideLines / 64 * kBlockBytes;
  static constexpr int kNarrowBytes = kNarrowLines / 64 * kBlockBytes;
  static constexpr int kStageBytes = kWideBytes + kNarrowBytes;
  static constexpr int kSharedBytes =
      kStages * (kStageBytes + 2 * static_cast<int>(sizeof(uint64_t)));
};

// Of the calling thread.
__device__ inline int WarpgroupThread() {
  return static_cast<int>(threadIdx.x) % StagedTile::kWarpgroup;
}
__device__ inline int WarpOfWarpgroup() { return WarpgroupThread() / 32; }
__device__ inline int LaneOfWarp() { return static_cast<int>(threadIdx.x) % 32; }
__device__ inline bool IsProducer() { return threadIdx.x < StagedTile::kWarpgroup; }
__device__ inline int Consumer() {
  return static_cast<int>(threadIdx.x) / StagedTile::kWarpgroup - 1;
}

// The stages, numbered over all tiles of the block, and two barriers of each: `landed` when the
// producer's copies are there, `released` when the consumers are done with them. With kBlocks = 2
// the blocks of a cluster fill each other's stages, too, in step: a stage is released when the
// consumers of both are done, and one more arrival at `landed` tells of the bytes that both bring.
template <int kBlocks>
class StageRing {
  using Tile = StagedTile;
  static constexpr bool kAlone = kBlocks == 1;

 public:
  __device__ explicit StageRing(unsigned char* shared)
      : stages_(shared),
        landed_(reinterpret_cast<uint64_t*>(shared + Tile::kStages * Tile::kStageBytes)),
        released_(landed_ + Tile::kStages) {}

  // By all threads of the block, before anything else.
  __device__ void Begin() const {
    if (threadIdx.x == 0) {
      for (int i = 0; i < Tile::kStages; ++i) {
        MbarrierInit(landed_ + i, Tile::kWarpgroup + (kAlone ? 0 : 1));
        MbarrierInit(released_ + i, kBlocks * Tile::kConsumers * Tile::kWarpgroup / 32);
      }
      FenceMbarrierInit();
    }
    if constexpr (kAlone) {
      __syncthreads();
    } else {
      ClusterSync();
    }
  }
  // By all threads, after everything else: no block ends while another may still reach it.
  __device__ void End() const {
    if constexpr (!kAlone) ClusterSync();
  }

  __device__ unsigned char* Stage(uint32_t number) const {
    return stages_ + number % Tile::kStages * Tile::kStageBytes;
  }
  __device__ uint64_t* Landed(uint32_t number) const { return landed_ + number % Tile::kStages; }
  __device__ void WaitUntilLanded(uint32_t number) const {
    MbarrierWait(Landed(number), number / Tile::kStages % 2);
  }
  __device__ void WaitUntilReleased(uint32_t number) const {
    MbarrierWait(released_ + number % Tile::kStages, (number / Tile::kStages + 1) % 2);
  }
  // By all warps of the consumers.
  __device__ void Release(uint32_t number) const {
    uint64_t* barrier = released_ + number % Tile::kStages;
    if constexpr (kAlone) {
      if (LaneOfWarp() == 0) MbarrierArrive(barrier);
    } else {
      if (LaneOfWarp() < kBlocks) MbarrierArriveAt(barrier, static_cast<unsigned>(LaneOfWarp()));
    }
  }

 private:
  unsigned char* stages_;
  uint64_t* landed_;
  uint64_t* released_;
};

// How consumers learn that a stage has landed. kByCopies: the copies themselves arrive at the
// barrier and consumers order them before their products. kByProducer: the producer's threads wait
// for all but their two latest stages, order them, and arrive: no fence among the products, where
// it would wait for copies under way, but a stage is known two stages late. The first is faster
// for the first product, the second for the second.
enum class Arrival { kByCopies, kByProducer };

// Stages of the calling thread of the producer, one after another: Begin(), copies, Copied().
template <Arrival kArrival, typename Ring>
class StageWriter {
  static constexpr uint32_t kLate = 2;

 public:
  __device__ explicit StageWriter(const Ring& ring) : ring_(ring) {}

  __device__ unsigned char* Begin() const {
    ring_.WaitUntilReleased(number_);
    return ring_.Stage(number_);
  }
  // Where the stage's bytes that others bring are to count.
  __device__ uint64_t* Landed() const { return ring_.Landed(number_); }
  __device__ void Copied() {
    if (kArrival == Arrival::kByCopies) {
      MbarrierArriveCopies(ring_.Landed(number_));
    } else {
      CpAsyncCommit();
      if (number_ >= kLate) Announce<kLate>(number_ - kLate);
    }
    ++number_;
  }
  // After the last stage.
  __device__ void Finish() const {
    if (kArrival == Arrival::kByProducer) {
      if (number_ >= 2) Announce<1>(number_ - 2);
      if (number_ >= 1) Announce<0>(number_ - 1);
    }
    CpAsyncWait<0>();  // no copy may be under way when a thread ends
  }

 private:
  template <int kUnderWay>
  __device__ void Announce(uint32_t number) const {
    CpAsyncWait<kUnderWay>();
    FenceAsyncProxy();
    MbarrierArrive(ring_.Landed(number));
  }

  const Ring& ring_;
  uint32_t number_ = 0;
};

// Stages of the calling warpgroup of the consumers, one after another.
template <Arrival kArrival, typename Ring>
class StageReader {
 public:
  __device__ explicit StageReader(const Ring& ring) : ring_(ring) {}

  // Calls multiply(stage), which begins products, for each of the next `stages` stages. Two are in
  // the hands of the consumers: the products of one are under way while those of the next begin.
  template <typename Body>
  __device__ __forceinline__ void Multiply(int stages, const Body& multiply) {
    for (int i = 0; i < stages; ++i, ++number_) {
      ring_.WaitUntilLanded(number_);
      if (kArrival == Arrival::kByCopies) FenceAsyncProxy();
      WgmmaFence();
      multiply(ring_.Stage(number_));
      WgmmaCommit();
      WgmmaWait<1>();
      if (i > 0) ring_.Release(number_ - 1);
    }
    WgmmaWait<0>();
    if (stages > 0) ring_.Release(number_ - 1);
  }

 private:
  const Ring& ring_;
  uint32_t number_ = 0;
};

// What a block does from its beginning to its end: produce() by the warpgroup that copies,
// consume() by those that multiply, each with its registers.
template <typename Ring, typename Produce, typename Consume>
__device__ __forceinline__ void RunRoles(const Ring& ring, const Produce& produce,
                                         const Consume& consume) {
  ring.Begin();
  if (IsProducer()) {
    RegistersDown<StagedTile::kProducerRegisters>();
    produce();
  } else {
    RegistersUp<StagedTile::kConsumerRegisters>();
    consume();
  }
  ring.End();
}

// tile(unit, number of the tile) for each tile of the calling block, or of its cluster.
template <int kBlocks, typename Tile>
__device__ __forceinline__ void ForEachTile(const ProductSchedule& schedule, const Tile& tile) {
  for (uint32_t i = blockIdx.x / kBlocks; i < schedule.blocks(); i += gridDim.x / kBlocks) {
    const ProductSchedule::Place place = schedule.Of(i);
    tile(place.unit, static_cast<int>(place.tile));
  }
}

// Bands of about 32 units, all about as wide.
inline ProductSchedule StagedSchedule(int64_t units, int64_t lines, int64_t lines_per_tile) {
  constexpr int64_t kBand = 32;
  const int64_t bands = std::max<int64_t>(1, units / kBand);
  return {.units = units,
          .tiles = (lines + lines_per_tile - 1) / lines_per_tile,
          .band = (units + bands - 1) / bands};
}

// With blocks_per_tile = 2 in clusters.
inline LaunchShape StagedLaunch(const char* name, const Stream& stream,
                                const ProductSchedule& schedule, unsigned blocks_per_tile) {
  CheckRange(name, "tiles", schedule.blocks(), 0, INT32_MAX);
  const int64_t at_once =
      std::max<int64_t>(1, stream.properties().multiprocessors / blocks_per_tile);
  return {.name = name,
          .grid = static_cast<unsigned>(std::min(schedule.blocks(), at_once)) * blocks_per_tile,
          .block = StagedTile::kThreads,
          .shared_bytes = StagedTile::kSharedBytes,
          .cluster = blocks_per_tile};
}

}  // namespace tamias::cuda::sm90a
