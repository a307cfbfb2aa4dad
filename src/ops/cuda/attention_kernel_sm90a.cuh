// The attention kernel for compute capability 9.0a: dense, dense with column sums, and
// column-sparse, by warpgroups with roles:
//   producer    attention_producer_sm90a.cuh     query, K and V on their way to shared memory
//   consumers   attention_rows_sm90a.cuh         scores, softmax, output of 64 rows each
//               attention_column_sums_sm90a.cuh
//   epilogue    attention_epilogue.cuh           normalise, combine, write
// Blocks stay: as many as the GPU has multiprocessors, each walks its tiles. While one tile ends,
// the producer is loading the next.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_column_sums_sm90a.cuh"
#include "ops/cuda/attention_epilogue.cuh"
#include "ops/cuda/attention_producer_sm90a.cuh"
#include "ops/cuda/attention_rows_sm90a.cuh"
#include "ops/cuda/attention_traits_sm90a.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/primitives_sm90a.cuh"
#include "ops/cuda/shared_memory.cuh"

namespace tamias::cuda::sm90a {

template <typename Traits, AttentionByProduct kByProduct>
constexpr uint32_t BarrierOffset() {
  return Traits::kLineOffset +
         (kByProduct == AttentionByProduct::kColumnSums ? Traits::kLineBytes : 0);
}
template <typename Traits, AttentionByProduct kByProduct>
constexpr uint32_t SharedBytes() {
  return BarrierOffset<Traits, kByProduct>() + AttentionBarriers<Traits>::kBytes;
}

// Consumers start products in turn, so that the products of one run while the others are at their
// softmax. Named barrier 1 + i is the turn of consumer i: it waits there, the one before it
// arrives.
template <typename Traits>
class ConsumerTurns {
 public:
  __device__ explicit ConsumerTurns(int consumer) : consumer_(static_cast<uint32_t>(consumer)) {
    if (consumer_ == Traits::kConsumers - 1) NamedBarrierArrive(1, kPair);
  }
  __device__ void Begin() const { NamedBarrierSync(1 + consumer_, kPair); }
  __device__ void End() const {
    NamedBarrierArrive(1 + (consumer_ + 1) % Traits::kConsumers, kPair);
  }

 private:
  static constexpr uint32_t kPair = 2 * kWarpgroup;
  uint32_t consumer_;
};

// What a consumer does with the tiles of its block. Steps are counted over all tiles, as by the
// producer.
template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
class AttentionConsumer {
  using T = typename Traits::T;
  static constexpr bool kSums = kByProduct == AttentionByProduct::kColumnSums;

 public:
  __device__ AttentionConsumer(const AttentionArguments<T>& arguments, unsigned char* shared,
                               const AttentionBarriers<Traits>& barriers)
      : arguments_(arguments),
        barriers_(barriers),
        consumer_(__shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpgroup - 1, 0)),
        turns_(consumer_),
        sums_(arguments, shared),
        query_(DescribeAlongDepth(shared + Traits::kQueryOffset + consumer_ * Traits::kQueryBytes)),
        keys_(DescribeAlongDepth(shared)),
        values_(DescribeAcrossDepth(shared + Traits::kValueOffset, Traits::kKeyBlockBytes)) {}

  __device__ void Run(int32_t tiles) {
    int32_t turn = 0;
    TileWalk<Traits, kKeyChoice> walk(arguments_, tiles);
    for (; walk.Next(); ++turn) {
      const int32_t keys = walk.Keys();
      MbarrierWait(barriers_.FullQuery(), turn % 2);
      // A warpgroup without rows keeps the barriers, nothing else.
      if (walk.row() + 64 * consumer_ < walk.tile().end_row) {
        Attend(walk.tile(), walk.row(), keys);
      } else {
        PassBy(walk.tile(), walk.row(), keys);
      }
    }
  }

 private:
  __device__ static int32_t WarpRow(int32_t row) {
    return row + static_cast<int32_t>(threadIdx.x) / 32 * 16 - kWarpgroup / 32 * 16;
  }

  // When all lanes are done with it, and have seen that it was full: a phase that is twice past
  // cannot be waited for.
  __device__ static void Release(uint64_t* empty) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) MbarrierArrive(empty);
  }
  __device__ void ReleaseKeys(int32_t step) const {
    Release(barriers_.EmptyKeys(StageOf<Traits>(step).stage));
  }
  __device__ void ReleaseValues(int32_t step) const {
    Release(barriers_.EmptyValues(StageOf<Traits>(step).stage));
  }
  __device__ void WaitForKeys(int32_t step) const {
    const StageOf<Traits> at(step);
    MbarrierWait(barriers_.FullKeys(at.stage), at.parity);
  }
  __device__ void WaitForValues(int32_t step) const {
    const StageOf<Traits> at(step);
    MbarrierWait(barriers_.FullValues(at.stage), at.parity);
  }

  __device__ void StartScores(AttentionRows<Traits>& rows, int32_t step) const {
    WaitForKeys(step);
    rows.StartScores(query_, Advance(keys_, StageOf<Traits>(step).stage * Traits::kTileBytes));
  }
  __device__ void StartOutput(AttentionRows<Traits>& rows, int32_t step) const {
    WaitForValues(step);
    rows.StartOutput(Advance(values_, StageOf<Traits>(step).stage * Traits::kTileBytes));
  }

  // Scores of the tile's step that begins at key `first` become weights.
  __device__ void Softmax(AttentionRows<Traits>& rows, int32_t first, int32_t keys) {
    rows.Mask(keys - first);
    rows.FindMaximum(arguments_.scale_log2);
    if constexpr (kSums) sums_.TakeFarScores(rows, step_);
    rows.Weigh(arguments_.scale_log2);
    if constexpr (kSums) sums_.TakeWeights(rows, step_);
  }

  // The products with K of a step run beside those with V of the step before.
  __device__ void Attend(const QueryTile& tile, int32_t row, int32_t keys) {
    AttentionRows<Traits> rows;
    rows.Begin();
    if constexpr (kSums) sums_.Begin(tile, WarpRow(row));
    if (keys > 0) {
      turns_.Begin();
      StartScores(rows, step_);
      turns_.End();
      WgmmaWait<0>();
      ReleaseKeys(step_);
      Softmax(rows, 0, keys);
      rows.PackWeights();
      ++step_;
      for (int32_t first = Traits::kKeys; first < keys; first += Traits::kKeys, ++step_) {
        turns_.Begin();
        StartScores(rows, step_);
        StartOutput(rows, step_ - 1);
        turns_.End();
        WgmmaWait<1>();
        ReleaseKeys(step_);
        if constexpr (kSums) AddSums(tile, row, first - 2 * Traits::kKeys, step_ - 2);
        Softmax(rows, first, keys);
        WgmmaWait<0>();
        ReleaseValues(step_ - 1);
        rows.RescaleOutput();
        rows.PackWeights();
      }
      Release(barriers_.EmptyQuery());
      turns_.Begin();
      StartOutput(rows, step_ - 1);
      turns_.End();
      WgmmaWait<0>();
      ReleaseValues(step_ - 1);
    } else {
      Release(barriers_.EmptyQuery());
    }
    if constexpr (kSums) AddLastSums(tile, row, keys);
    WriteRows<Traits>(rows, arguments_, tile.head, WarpRow(row), tile.end_row);
  }

  __device__ void PassBy(const QueryTile& tile, int32_t row, int32_t keys) {
    for (int32_t first = 0; first < keys; first += Traits::kKeys, ++step_) {
      turns_.Begin();
      turns_.End();
      WaitForKeys(step_);
      ReleaseKeys(step_);
      WaitForValues(step_);
      ReleaseValues(step_);
      if constexpr (kSums) AddSums(tile, row, first - 2 * Traits::kKeys, step_ - 2);
    }
    Release(barriers_.EmptyQuery());
    if (keys > 0) {
      turns_.Begin();
      turns_.End();
    }
    if constexpr (kSums) AddLastSums(tile, row, keys);
  }

  // Of the step that begins at key `first`, by the consumer whose turn it is.
  __device__ void AddSums(const QueryTile& tile, int32_t row, int32_t first, int32_t step) const {
    if (first < 0 || first / Traits::kKeys % Traits::kConsumers != consumer_) return;
    sums_.Add(tile, row, first, step);
  }
  // Of the last two steps of a tile.
  __device__ void AddLastSums(const QueryTile& tile, int32_t row, int32_t keys) const {
    constexpr uint32_t kAllConsumers = 1 + Traits::kConsumers;
    NamedBarrierSync(kAllConsumers, kWarpgroup * Traits::kConsumers);
    const int32_t last = (keys - 1) / Traits::kKeys * Traits::kKeys;
    AddSums(tile, row, last - Traits::kKeys, step_ - 2);
    AddSums(tile, row, last, step_ - 1);
  }

  const AttentionArguments<T>& arguments_;
  const AttentionBarriers<Traits>& barriers_;
  int consumer_;
  ConsumerTurns<Traits> turns_;
  ColumnSums<Traits> sums_;
  uint64_t query_, keys_, values_;  // descriptors
  int32_t step_ = 0;
};

template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
__global__ void __launch_bounds__(Traits::kThreads, 1)
    AttentionKernel(const __grid_constant__ AttentionArguments<typename Traits::T> arguments,
                    int32_t tiles) {
  CheckLaunchBounds<Traits::kThreads>();
  unsigned char* shared = SharedMemory();
  const AttentionBarriers<Traits> barriers(shared + BarrierOffset<Traits, kByProduct>());
  if (threadIdx.x == 0) barriers.Init();
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    RegistersDown<Traits::kProducerRegisters>();
    AttentionProducer<Traits, kKeyChoice>(arguments, shared, barriers).Run(tiles);
  } else {
    RegistersUp<Traits::kConsumerRegisters>();
    AttentionConsumer<Traits, kKeyChoice, kByProduct>(arguments, shared, barriers).Run(tiles);
  }
}

}  // namespace tamias::cuda::sm90a
