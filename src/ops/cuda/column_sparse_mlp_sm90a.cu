// The column-sparse MLP delta on compute capability 9.0: the two products of column_sparse_mlp.cu
// with tiles twice as large, on wgmma (staged_product_sm90a.cuh). Each consumer warpgroup has
//   first product   128 rows of W1 x 128 tokens of C[row, token], as two products of 64 rows; of a
//                   gated MLP the first 64 are rows of W1's first half, the others those of the
//                   same neurons in the second: one thread holds both values of a neuron
//   second product  64 tokens x 256 columns of C[token, column]
// Groups of 256 tokens go to column_sparse_mlp_pairs_sm90a.cu.
#include "ops/cuda/column_sparse_mlp_parts_sm90a.cuh"
#include "ops/cuda/shared_memory.cuh"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda::sm90a {
namespace {

using Tile = StagedTile;
using Ring = StageRing<1>;

constexpr Arrival kUpArrival = Arrival::kByCopies, kDownArrival = Arrival::kByProducer;

// ---- first product ------------------------------------------------------------------------------

template <bool kGated>
using OwnUpTile = UpTile<kGated, Tile::kWideLines, 64>;

// Tiles of the first product that have neurons and tokens.
template <bool kGated, typename Body>
__device__ __forceinline__ void ForEachUpTile(const MlpUpTask& task, const Body& body) {
  ForEachTile<1>(task.schedule, [&](int64_t unit_number, int tile_number) {
    const MlpUnit unit(task, unit_number);
    const OwnUpTile<kGated> tile(task, unit, tile_number);
    if (tile.count > 0 && unit.first_token < task.tokens) body(unit, tile);
  });
}

template <typename Half, bool kGated>
__device__ __forceinline__ void ProduceUp(const MlpUpTask& task, const Ring& ring) {
  constexpr int kWideCopies = Tile::kWideLines / kRowStep;
  constexpr int kNarrowCopies = Tile::kNarrowLines / kRowStep;
  StageWriter<kUpArrival, Ring> writer(ring);
  const int piece = WarpgroupThread() % kPieces, row = WarpgroupThread() / kPieces;
  const uint32_t place = OperandOffset(static_cast<uint32_t>(row), static_cast<uint32_t>(piece));
  const int stages = StagesOf(task.model_dim);
  ForEachUpTile<kGated>(task, [&](const MlpUnit& unit, const OwnUpTile<kGated>& tile) {
    uint32_t offsets[kWideCopies];
    WeightOffsets(task, tile, row, offsets);
    const Half* input = static_cast<const Half*>(task.input) + unit.batch * task.input_batch_stride;
    const int last_token = task.tokens - 1;  // stands for tokens beyond it, which nobody reads
    int column = piece * kVector;
    for (int stage = 0; stage < stages; ++stage, column += Tile::kDepth) {
      unsigned char* wide = writer.Begin() + place;
      unsigned char* narrow = wide + Tile::kWideBytes;
      if (stage == stages / 2) PrefetchCached<Half>(task, unit, tile, kMlpUnitTokens);
      const bool inside = column < task.model_dim;
      const int at = inside ? column : 0;
      const auto* weights = static_cast<const uint4*>(task.fc1_weight) + at / kVector;
#pragma unroll
      for (int i = 0; i < kWideCopies; ++i) {
        CpAsync16(wide + i * kRowStep * kOperandRowBytes, weights + offsets[i], inside);
      }
#pragma unroll
      for (int i = 0; i < kNarrowCopies; ++i) {
        const int64_t token = min(unit.first_token + row + kRowStep * i, last_token);
        CpAsync16(narrow + i * kRowStep * kOperandRowBytes, input + token * task.input_stride + at,
                  inside);
      }
      writer.Copied();
    }
  });
  writer.Finish();
}

using UpSums = float[2][Tile::kNarrowLines / 2];

template <typename Half, typename Factor, bool kGated>
__device__ __forceinline__ void UpEpilogue(const MlpUpTask& task, const MlpUnit& unit,
                                           const OwnUpTile<kGated>& tile, const UpSums& sums) {
  constexpr int kStrips = kGated ? 1 : 2;  // of 64 neurons
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip) {
    const int first_row = (Consumer() * kStrips + strip) * 64 + WarpOfWarpgroup() * 16;
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      WriteNeuron<Half, Factor, kGated, Tile::kNarrowLines>(
          task, unit, tile, first_row + half * 8 + LaneOfWarp() / 4,
          [&](int block) { return PairsOf(sums[strip], block, half != 0); },
          [&](int block) { return kGated ? PairsOf(sums[1], block, half != 0) : Floats8{}; });
    }
  }
}

template <typename Half, typename Factor, bool kGated>
__device__ __forceinline__ void ConsumeUp(const MlpUpTask& task, const Ring& ring) {
  constexpr OperandLayout kAlong = OperandLayout::kAlongDepth;
  StageReader<kUpArrival, Ring> reader(ring);
  const int stages = StagesOf(task.model_dim);
  ForEachUpTile<kGated>(task, [&](const MlpUnit& unit, const OwnUpTile<kGated>& tile) {
    UpSums sums = {};
    reader.Multiply(stages, [&](const unsigned char* stage) {
      const uint64_t a = DescribeAlongDepth(stage + Consumer() * 2 * Tile::kBlockBytes);
      const uint64_t b = DescribeAlongDepth(stage + Tile::kWideBytes);
#pragma unroll
      for (uint32_t k = 0; k < kOperandRowBytes; k += 32) {
        WgmmaFromShared<Factor, Tile::kNarrowLines, kAlong, kAlong>(sums[0], Advance(a, k),
                                                                    Advance(b, k), true);
        WgmmaFromShared<Factor, Tile::kNarrowLines, kAlong, kAlong>(
            sums[1], Advance(a, Tile::kBlockBytes + k), Advance(b, k), true);
      }
    });
    UpEpilogue<Half, Factor, kGated>(task, unit, tile, sums);
  });
}

// Factor: of the products, Half or Float8E4M3.
template <typename Half, typename Factor, bool kGated>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    UpKernel(const __grid_constant__ MlpUpTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  const Ring ring(SharedMemory());
  RunRoles(
      ring, [&] { ProduceUp<Half, kGated>(task, ring); },
      [&] { ConsumeUp<Half, Factor, kGated>(task, ring); });
}

template <typename Half>
auto UpKernelOf(const MlpUpTask& task, bool gated) {
  if (task.IsFloat8()) {
    return gated ? UpKernel<Half, Float8E4M3, true> : UpKernel<Half, Float8E4M3, false>;
  }
  return gated ? UpKernel<Half, Half, true> : UpKernel<Half, Half, false>;
}

// ---- second product -----------------------------------------------------------------------------

template <typename Half>
__device__ __forceinline__ void ProduceDown(const MlpDownTask& task, const Ring& ring) {
  StageWriter<kDownArrival, Ring> writer(ring);
  ForEachDownTile<1, kMlpUnitTokens, Tile::kWideLines>(
      task, 0, [&](const MlpUnit& unit, int first_column) {
        const int stages = StagesOf(unit.count);
        ChosenRows<Tile::kWideLines, Half> weights(task, unit, first_column);
        for (int stage = 0; stage < stages; ++stage) {
          unsigned char* wide = writer.Begin();
          if (stage == stages / 2) {
            PrefetchOutput<kMlpUnitTokens, Tile::kWideLines>(task, unit, first_column);
          }
          CopyDelta<Tile::kNarrowLines, Half>(task, unit, stage * Tile::kDepth,
                                              wide + Tile::kWideBytes);
          weights.Copy(stage * Tile::kDepth, wide);
          writer.Copied();
        }
      });
  writer.Finish();
}

template <typename Half>
__device__ __forceinline__ void ConsumeDown(const MlpDownTask& task, const Ring& ring) {
  constexpr OperandLayout kAcross = OperandLayout::kAcrossDepth;
  constexpr uint32_t kStep = 16 * kOperandRowBytes;
  StageReader<kDownArrival, Ring> reader(ring);
  ForEachDownTile<1, kMlpUnitTokens, Tile::kWideLines>(
      task, 0, [&](const MlpUnit& unit, int first_column) {
        float sums[Tile::kWideLines / 2] = {};
        reader.Multiply(StagesOf(unit.count), [&](const unsigned char* stage) {
          const unsigned char* tokens = stage + Tile::kWideBytes + Consumer() * Tile::kBlockBytes;
          const uint64_t a = DescribeAcrossDepth(tokens, Tile::kBlockBytes);
          const uint64_t b = DescribeAcrossDepth(stage, Tile::kBlockBytes);
#pragma unroll
          for (uint32_t k = 0; k < Tile::kDepth / 16; ++k) {
            WgmmaFromShared<Half, Tile::kWideLines, kAcross, kAcross>(sums, Advance(a, k * kStep),
                                                                      Advance(b, k * kStep), true);
          }
        });
        AddToOutput<Tile::kWideLines>(task, unit, Consumer() * 64, first_column, sums);
      });
}

template <typename Half>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    DownKernel(const __grid_constant__ MlpDownTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  const Ring ring(SharedMemory());
  RunRoles(
      ring, [&] { ProduceDown<Half>(task, ring); }, [&] { ConsumeDown<Half>(task, ring); });
}

}  // namespace

bool ServesMlpUp(const MlpUpTask& task, bool gated) {
  const int64_t rows = (gated ? 2 : 1) * int64_t{task.neurons};
  return task.neurons > 0 && task.model_dim > 0 && rows * task.fc1_stride / kVector <= UINT32_MAX;
}

void ColumnSparseMlpUp(Stream& stream, const MlpUpTask& task, DType dtype, bool gated) {
  if (task.group_size % kPairTokens == 0) {
    return ColumnSparseMlpUpInPairs(stream, task, dtype, gated);
  }
  const int64_t neurons = gated ? OwnUpTile<true>::kNeurons : OwnUpTile<false>::kNeurons;
  MlpUpTask scheduled = task;
  scheduled.schedule = StagedSchedule(task.schedule.units, task.capacity, neurons);
  const LaunchShape launch =
      StagedLaunch("column-sparse MLP, first product, sm90a", stream, scheduled.schedule, 1);
  Launch(
      dtype == DType::kBF16 ? UpKernelOf<BFloat16>(task, gated) : UpKernelOf<Float16>(task, gated),
      launch, stream, scheduled);
}

void ColumnSparseMlpDown(Stream& stream, const MlpDownTask& task, DType dtype) {
  if (task.group_size % kPairTokens == 0) return ColumnSparseMlpDownInPairs(stream, task, dtype);
  MlpDownTask scheduled = task;
  scheduled.schedule = StagedSchedule(task.schedule.units, task.model_dim, Tile::kWideLines);
  const LaunchShape launch =
      StagedLaunch("column-sparse MLP, second product, sm90a", stream, scheduled.schedule, 1);
  if (dtype == DType::kBF16) {
    Launch(DownKernel<BFloat16>, launch, stream, scheduled);
  } else {
    Launch(DownKernel<Float16>, launch, stream, scheduled);
  }
}

}  // namespace tamias::cuda::sm90a
