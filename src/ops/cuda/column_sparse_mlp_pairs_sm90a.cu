// The column-sparse MLP delta on compute capability 9.0 for groups of a multiple of 256 tokens: two
// blocks of a cluster work on 256 tokens, and each brings half of what both need (tokens, or their
// delta) to both at once (TMA multicast), which spares a third of the reading. Per block
//   first product   128 rows of W1, its own, x the 256 tokens; a consumer warpgroup has 64 of the
//                   rows. Of a gated MLP eight rows of W1's first half are followed by the same
//                   neurons' in the second: one thread holds both values of a neuron
//   second product  the 256 tokens x 128 columns, its own; a consumer has 128 of the tokens
#include "ops/cuda/column_sparse_mlp_parts_sm90a.cuh"
#include "ops/cuda/shared_memory.cuh"

namespace tamias::cuda::sm90a {
namespace {

using Tile = StagedTile;
using Ring = StageRing<2>;

constexpr int kBlocks = 2;
constexpr Arrival kArrival = Arrival::kByCopies;

__device__ inline int Rank() { return static_cast<int>(ClusterRank()); }

// ---- first product ------------------------------------------------------------------------------

template <bool kGated>
using OwnUpTile = UpTile<kGated, Tile::kNarrowLines, 8>;

// Tiles of the first product where one of the two blocks has neurons: both go through the stages.
template <bool kGated, typename Body>
__device__ __forceinline__ void ForEachUpTile(const MlpUpTask& task, const Body& body) {
  constexpr int kNeurons = OwnUpTile<kGated>::kNeurons;
  ForEachTile<kBlocks>(task.schedule, [&](int64_t unit_number, int tile_number) {
    const MlpUnit unit(task, unit_number, kPairTokens);
    if (tile_number * kBlocks * kNeurons >= unit.count || unit.first_token >= task.tokens) return;
    body(unit, OwnUpTile<kGated>(task, unit, tile_number * kBlocks + Rank()));
  });
}

template <typename Half, bool kGated>
__device__ __forceinline__ void ProduceUp(const MlpUpTask& task, const TensorMap& tokens,
                                          const Ring& ring) {
  constexpr int kCopies = Tile::kNarrowLines / kRowStep;
  StageWriter<kArrival, Ring> writer(ring);
  const int piece = WarpgroupThread() % kPieces, row = WarpgroupThread() / kPieces;
  const uint32_t place = OperandOffset(static_cast<uint32_t>(row), static_cast<uint32_t>(piece));
  const int stages = StagesOf(task.model_dim);
  ForEachUpTile<kGated>(task, [&](const MlpUnit& unit, const OwnUpTile<kGated>& tile) {
    uint32_t offsets[kCopies];
    WeightOffsets(task, tile, row, offsets);
    for (int stage = 0; stage < stages; ++stage) {
      unsigned char* wide = writer.Begin();
      if (stage == stages / 2) PrefetchCached<Half>(task, unit, tile, kPairTokens);
      const int first = stage * Tile::kDepth, column = first + piece * kVector;
      if (threadIdx.x == 0) {
        MbarrierArriveExpect(writer.Landed(), Tile::kWideBytes);
        CopyBoxToCluster(wide + Rank() * Tile::kWideBytes / kBlocks, tokens, writer.Landed(), first,
                         unit.first_token + Rank() * kPairTokens / kBlocks,
                         static_cast<int>(unit.batch));
      }
      const bool inside = column < task.model_dim;
      const auto* weights =
          static_cast<const uint4*>(task.fc1_weight) + (inside ? column / kVector : 0);
      unsigned char* narrow = wide + Tile::kWideBytes + place;
#pragma unroll
      for (int i = 0; i < kCopies; ++i) {
        CpAsync16(narrow + i * kRowStep * kOperandRowBytes, weights + offsets[i], inside);
      }
      writer.Copied();
    }
  });
  writer.Finish();
}

using UpSums = float[kPairTokens / 2];

template <typename Half, typename Factor, bool kGated>
__device__ __forceinline__ void UpEpilogue(const MlpUpTask& task, const MlpUnit& unit,
                                           const OwnUpTile<kGated>& tile, const UpSums& sums) {
  const int first_row = Consumer() * 64 + WarpOfWarpgroup() * 16;
  if constexpr (kGated) {
    WriteNeuron<Half, Factor, true, kPairTokens>(
        task, unit, tile, first_row / 2 + LaneOfWarp() / 4,
        [&](int block) { return PairsOf(sums, block, false); },
        [&](int block) { return PairsOf(sums, block, true); });
  } else {
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      WriteNeuron<Half, Factor, false, kPairTokens>(
          task, unit, tile, first_row + half * 8 + LaneOfWarp() / 4,
          [&](int block) { return PairsOf(sums, block, half != 0); },
          [](int) { return Floats8{}; });
    }
  }
}

template <typename Half, typename Factor, bool kGated>
__device__ __forceinline__ void ConsumeUp(const MlpUpTask& task, const Ring& ring) {
  constexpr OperandLayout kAlong = OperandLayout::kAlongDepth;
  StageReader<kArrival, Ring> reader(ring);
  const int stages = StagesOf(task.model_dim);
  ForEachUpTile<kGated>(task, [&](const MlpUnit& unit, const OwnUpTile<kGated>& tile) {
    UpSums sums = {};
    reader.Multiply(stages, [&](const unsigned char* stage) {
      const uint64_t a =
          DescribeAlongDepth(stage + Tile::kWideBytes + Consumer() * Tile::kBlockBytes);
      const uint64_t b = DescribeAlongDepth(stage);
#pragma unroll
      for (uint32_t k = 0; k < kOperandRowBytes; k += 32) {
        WgmmaFromShared<Factor, kPairTokens, kAlong, kAlong>(sums, Advance(a, k), Advance(b, k),
                                                             true);
      }
    });
    UpEpilogue<Half, Factor, kGated>(task, unit, tile, sums);
  });
}

// Factor: of the products, Half or Float8E4M3.
template <typename Half, typename Factor, bool kGated>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    UpPairKernel(const __grid_constant__ MlpUpTask task, const __grid_constant__ TensorMap tokens) {
  CheckLaunchBounds<Tile::kThreads>();
  const Ring ring(SharedMemory());
  RunRoles(
      ring, [&] { ProduceUp<Half, kGated>(task, tokens, ring); },
      [&] { ConsumeUp<Half, Factor, kGated>(task, ring); });
}

template <typename Half>
auto UpPairKernelOf(const MlpUpTask& task, bool gated) {
  if (task.IsFloat8()) {
    return gated ? UpPairKernel<Half, Float8E4M3, true> : UpPairKernel<Half, Float8E4M3, false>;
  }
  return gated ? UpPairKernel<Half, Half, true> : UpPairKernel<Half, Half, false>;
}

// ---- second product -----------------------------------------------------------------------------

// By one thread: half of 64 whole rows of the delta, to both blocks.
__device__ __forceinline__ void CopyDeltaToBoth(const MlpUnit& unit, const TensorMap& delta,
                                                int first, unsigned char* wide, uint64_t* landed) {
  constexpr int kRows = Tile::kDepth / kBlocks;
  MbarrierArriveExpect(landed, Tile::kWideBytes);
#pragma unroll
  for (int block = 0; block < kPairTokens / 64; ++block) {
    CopyBoxToCluster(wide + block * Tile::kBlockBytes + Rank() * Tile::kBlockBytes / kBlocks, delta,
                     landed, unit.first + block * 64, first + Rank() * kRows,
                     static_cast<int>(unit.group));
  }
}

template <typename Half>
__device__ __forceinline__ void ProduceDown(const MlpDownTask& task, const TensorMap& delta,
                                            const Ring& ring) {
  StageWriter<kArrival, Ring> writer(ring);
  ForEachDownTile<kBlocks, kPairTokens, Tile::kNarrowLines>(
      task, Rank(), [&](const MlpUnit& unit, int first_column) {
        const int stages = StagesOf(unit.count);
        ChosenRows<Tile::kNarrowLines, Half> weights(task, unit, first_column);
        for (int stage = 0; stage < stages; ++stage) {
          const int first = stage * Tile::kDepth;
          unsigned char* wide = writer.Begin();
          if (stage == stages / 2) {
            PrefetchOutput<kPairTokens, Tile::kNarrowLines>(task, unit, first_column);
          }
          // What the delta holds behind the list is not read: each block copies the last rows
          // itself.
          const bool is_whole = first + Tile::kDepth <= unit.count;
          if (!is_whole) CopyDelta<kPairTokens, Half>(task, unit, first, wide);
          if (threadIdx.x == 0) {
            if (is_whole) {
              CopyDeltaToBoth(unit, delta, first, wide, writer.Landed());
            } else {
              MbarrierArrive(writer.Landed());
            }
          }
          weights.Copy(first, wide + Tile::kWideBytes);
          writer.Copied();
        }
      });
  writer.Finish();
}

template <typename Half>
__device__ __forceinline__ void ConsumeDown(const MlpDownTask& task, const Ring& ring) {
  constexpr OperandLayout kAcross = OperandLayout::kAcrossDepth;
  constexpr uint32_t kStep = 16 * kOperandRowBytes;
  StageReader<kArrival, Ring> reader(ring);
  ForEachDownTile<kBlocks, kPairTokens, Tile::kNarrowLines>(
      task, Rank(), [&](const MlpUnit& unit, int first_column) {
        float sums[2][Tile::kNarrowLines / 2] = {};
        reader.Multiply(StagesOf(unit.count), [&](const unsigned char* stage) {
          const unsigned char* tokens = stage + Consumer() * 2 * Tile::kBlockBytes;
          const uint64_t a = DescribeAcrossDepth(tokens, Tile::kBlockBytes);
          const uint64_t b = DescribeAcrossDepth(stage + Tile::kWideBytes, Tile::kBlockBytes);
#pragma unroll
          for (uint32_t k = 0; k < Tile::kDepth / 16; ++k) {
            WgmmaFromShared<Half, Tile::kNarrowLines, kAcross, kAcross>(
                sums[0], Advance(a, k * kStep), Advance(b, k * kStep), true);
            WgmmaFromShared<Half, Tile::kNarrowLines, kAcross, kAcross>(
                sums[1], Advance(a, Tile::kBlockBytes + k * kStep), Advance(b, k * kStep), true);
          }
        });
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          AddToOutput<Tile::kNarrowLines>(task, unit, (Consumer() * 2 + i) * 64, first_column,
                                          sums[i]);
        }
      });
}

template <typename Half>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    DownPairKernel(const __grid_constant__ MlpDownTask task,
                   const __grid_constant__ TensorMap delta) {
  CheckLaunchBounds<Tile::kThreads>();
  const Ring ring(SharedMemory());
  RunRoles(
      ring, [&] { ProduceDown<Half>(task, delta, ring); }, [&] { ConsumeDown<Half>(task, ring); });
}

// Units of 256 tokens.
template <typename Task>
int64_t MakePairs(Task& task) {
  const int64_t groups = task.schedule.units / task.units_per_group;
  task.units_per_group = task.group_size / kPairTokens;
  return groups * task.units_per_group;
}

}  // namespace

void ColumnSparseMlpUpInPairs(Stream& stream, const MlpUpTask& task, DType dtype, bool gated) {
  constexpr const char* kName = "column-sparse MLP, first product, sm90a, in pairs";
  MlpUpTask scheduled = task;
  const int64_t neurons = gated ? OwnUpTile<true>::kNeurons : OwnUpTile<false>::kNeurons;
  const int64_t units = MakePairs(scheduled);
  scheduled.schedule = StagedSchedule(units, task.capacity, kBlocks * neurons);
  const LaunchShape launch = StagedLaunch(kName, stream, scheduled.schedule, kBlocks);
  if (launch.grid.x == 0) return;
  const TensorMap tokens =
      MapTensor(kName, {.data = task.input,
                        .columns = task.model_dim,
                        .rows = task.tokens,
                        .batch = units / task.groups / scheduled.units_per_group,
                        .row_stride = task.input_stride,
                        .batch_stride = task.input_batch_stride,
                        .box_rows = kPairTokens / kBlocks});
  Launch(dtype == DType::kBF16 ? UpPairKernelOf<BFloat16>(task, gated)
                               : UpPairKernelOf<Float16>(task, gated),
         launch, stream, scheduled, tokens);
}

void ColumnSparseMlpDownInPairs(Stream& stream, const MlpDownTask& task, DType dtype) {
  constexpr const char* kName = "column-sparse MLP, second product, sm90a, in pairs";
  MlpDownTask scheduled = task;
  const int64_t units = MakePairs(scheduled);
  scheduled.schedule = StagedSchedule(units, task.model_dim, kBlocks * Tile::kNarrowLines);
  const LaunchShape launch = StagedLaunch(kName, stream, scheduled.schedule, kBlocks);
  if (launch.grid.x == 0) return;
  const int64_t group_elements = int64_t{task.capacity} * task.group_size;
  const TensorMap delta = MapTensor(kName, {.data = task.delta,
                                            .columns = task.group_size,
                                            .rows = task.capacity,
                                            .batch = units / scheduled.units_per_group,
                                            .row_stride = task.group_size,
                                            .batch_stride = group_elements,
                                            .box_rows = Tile::kDepth / kBlocks});
  if (dtype == DType::kBF16) {
    Launch(DownPairKernel<BFloat16>, launch, stream, scheduled, delta);
  } else {
    Launch(DownPairKernel<Float16>, launch, stream, scheduled, delta);
  }
}

}  // namespace tamias::cuda::sm90a
