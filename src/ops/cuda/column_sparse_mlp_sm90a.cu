// The column-sparse MLP delta on compute capability 9.0: the two products of column_sparse_mlp.cu
// with tiles twice as large, on wgmma (staged_product_sm90a.cuh). Each consumer warpgroup has
//   first product   128 rows of W1 x 128 tokens of C[row, token], as two products of 64 rows; of a
//                   gated MLP the first 64 are rows of W1's first half, the others those of the
//                   same neurons in the second: one thread holds both values of a neuron
//   second product  64 tokens x 256 columns of C[token, column]
// A thread's sums lie in pairs, eight columns apart. Four pairs, rounded, are transposed among the
// four lanes that hold a row: 16 bytes each, as the caches are read and written.
#include "ops/cuda/column_sparse_mlp_task.cuh"
#include "ops/cuda/prefetch.cuh"
#include "ops/cuda/quad.cuh"
#include "ops/cuda/shared_memory.cuh"
#include "ops/cuda/sm90a.h"
#include "ops/cuda/staged_product_sm90a.cuh"

namespace tamias::cuda::sm90a {
namespace {

using Tile = StagedTile;

constexpr Arrival kUpArrival = Arrival::kByCopies, kDownArrival = Arrival::kByProducer;
constexpr int kPieces = kOperandRowBytes / 16;        // of a row of an operand
constexpr int kRowStep = Tile::kWarpgroup / kPieces;  // rows that the producer copies at once
constexpr int kLineBytes = 128;                       // of the L2 cache

__device__ inline int Stages(int depth) { return (depth + Tile::kDepth - 1) / Tile::kDepth; }

// ---- first product ------------------------------------------------------------------------------

// The neurons of a tile: 256, or 128 of a gated MLP.
template <bool kGated>
struct UpTile : ChosenNeurons {
  static constexpr int kNeurons = kGated ? Tile::kWideLines / 2 : Tile::kWideLines;

  int first_place;  // in the group's list

  __device__ UpTile(const MlpUpTask& task, const MlpUnit& unit, int tile)
      : ChosenNeurons{task.indices + unit.group * task.capacity + tile * kNeurons,
                      unit.count - tile * kNeurons, task.neurons},
        first_place(tile * kNeurons) {}

  // The row of W1 that is line `line` of A; some row where there is none: lines do not mix, and
  // such a line's sums are not used.
  __device__ uint32_t WeightRow(int line) const {
    const int neuron = Neuron(kGated ? line / 128 * 64 + line % 64 : line);
    if (neuron < 0) return 0;
    return static_cast<uint32_t>(kGated && line / 64 % 2 != 0 ? neurons + neuron : neuron);
  }
};

// Tiles of the first product that have neurons and tokens.
template <bool kGated, typename Body>
__device__ __forceinline__ void ForEachUpTile(const MlpUpTask& task, const Body& body) {
  ForEachTile(task.schedule, [&](int64_t unit_number, int tile_number) {
    const MlpUnit unit(task, unit_number);
    const UpTile<kGated> tile(task, unit, tile_number);
    if (tile.count > 0 && unit.first_token < task.tokens) body(unit, tile);
  });
}

// The cached activations that the epilogue will want, into the L2 cache: 256 bytes of a neuron.
template <typename Half, bool kGated>
__device__ void PrefetchCached(const MlpUpTask& task, const MlpUnit& unit,
                               const UpTile<kGated>& tile) {
  constexpr int kLines = kMlpUnitTokens * 2 / kLineBytes;
  const auto* cache = static_cast<const Half*>(task.cached_activations) +
                      unit.group * task.neurons * task.group_size + unit.first;
#pragma unroll 1
  for (int i = WarpgroupThread(); i < UpTile<kGated>::kNeurons * kLines; i += Tile::kWarpgroup) {
    const int neuron = tile.Neuron(i / kLines), token = i % kLines * (kLineBytes / 2);
    if (neuron < 0 || unit.first + token >= task.group_size) continue;
    PrefetchL2(cache + static_cast<int64_t>(neuron) * task.group_size + token);
  }
}

template <typename Half, bool kGated>
__device__ __forceinline__ void ProduceUp(const MlpUpTask& task, const StageRing& ring) {
  constexpr int kWideCopies = Tile::kWideLines / kRowStep;
  constexpr int kNarrowCopies = Tile::kNarrowLines / kRowStep;
  StageWriter<kUpArrival> writer(ring);
  const int piece = WarpgroupThread() % kPieces, row = WarpgroupThread() / kPieces;
  const uint32_t place = OperandOffset(static_cast<uint32_t>(row), static_cast<uint32_t>(piece));
  const int stages = Stages(task.model_dim);
  ForEachUpTile<kGated>(task, [&](const MlpUnit& unit, const UpTile<kGated>& tile) {
    uint32_t offsets[kWideCopies];  // of rows of W1, in vectors
#pragma unroll
    for (int i = 0; i < kWideCopies; ++i) {
      offsets[i] =
          tile.WeightRow(row + kRowStep * i) * static_cast<uint32_t>(task.fc1_stride / kVector);
    }
    const Half* input = static_cast<const Half*>(task.input) + unit.batch * task.input_batch_stride;
    const int last_token = task.tokens - 1;  // stands for tokens beyond it, which nobody reads
    int column = piece * kVector;
    for (int stage = 0; stage < stages; ++stage, column += Tile::kDepth) {
      unsigned char* wide = writer.Begin() + place;
      unsigned char* narrow = wide + Tile::kWideBytes;
      if (stage == stages / 2) PrefetchCached<Half>(task, unit, tile);
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

// Four pairs of one row (of the tile's 16 rows apart by `row`, 0 or 8), from column 32 * block on.
__device__ __forceinline__ Floats8 PairsOf(const float (&sums)[Tile::kNarrowLines / 2], int block,
                                           bool is_second_row) {
  Floats8 pairs;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const float* sum = sums + 4 * (4 * block + i) + k;
      pairs[2 * i + k] = is_second_row ? sum[2] : sum[0];
    }
  }
  return pairs;
}

// Eight consecutive tokens of the four lanes' row from pairs eight apart.
template <typename Half>
__device__ __forceinline__ uint4 PackTransposed(const Floats8& pairs) {
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = PackPair<Half>(pairs[2 * i], pairs[2 * i + 1]);
  QuadTranspose(words);
  return {words[0], words[1], words[2], words[3]};
}

// One row of a consumer's sums: a neuron in 128 tokens. The new activations go into the cache, what
// they moved by (between rounded values, as in column_sparse_mlp.cu) into the delta.
template <typename Half, bool kGated>
__device__ __forceinline__ void WriteNeuron(const MlpUpTask& task, const MlpUnit& unit,
                                            const UpTile<kGated>& tile, int place,
                                            bool is_second_row,
                                            const float (&first)[Tile::kNarrowLines / 2],
                                            const float (&second)[Tile::kNarrowLines / 2]) {
  constexpr int kBlocks = Tile::kNarrowLines / 32;
  const bool is_listed = place < tile.count;
  const int neuron = tile.Neuron(place);
  const NeuronBias bias = neuron < 0 ? NeuronBias{} : BiasOfNeuron<kGated>(task, neuron);
  const int token = unit.first + LaneOfWarp() % 4 * kVector;
  auto* cached = reinterpret_cast<uint4*>(
      static_cast<Half*>(task.cached_activations) +
      (unit.group * task.neurons + max(neuron, 0)) * task.group_size + token);
  auto* delta = reinterpret_cast<uint4*>(
      static_cast<Half*>(task.delta) +
      (unit.group * task.capacity + tile.first_place + place) * task.group_size + token);
  uint4 before[kBlocks];
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const bool inside = neuron >= 0 && token + 32 * block < task.group_size;
    before[block] = inside ? cached[4 * block] : uint4{0, 0, 0, 0};
  }
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const Floats8 hidden =
        HiddenOf<kGated>(task, bias, PairsOf(first, block, is_second_row),
                         kGated ? PairsOf(second, block, is_second_row) : Floats8{});
    const uint4 after = PackTransposed<Half>(hidden);
    if (!is_listed || token + 32 * block >= task.group_size) continue;
    if (neuron < 0) {  // not a neuron: the second product multiplies by zeros, so no NaN here
      delta[4 * block] = {0, 0, 0, 0};
      continue;
    }
    Floats8 change = vector::Unpack8<Half>(after);
    const Floats8 old = vector::Unpack8<Half>(before[block]);
#pragma unroll
    for (int i = 0; i < kVector; ++i) change[i] -= old[i];
    cached[4 * block] = after;
    delta[4 * block] = vector::Pack8<Half>(change);
  }
}

template <typename Half, bool kGated>
__device__ __forceinline__ void UpEpilogue(const MlpUpTask& task, const MlpUnit& unit,
                                           const UpTile<kGated>& tile, const UpSums& sums) {
  constexpr int kStrips = kGated ? 1 : 2;  // of 64 neurons
#pragma unroll
  for (int strip = 0; strip < kStrips; ++strip) {
    const int first_row = (Consumer() * kStrips + strip) * 64 + WarpOfWarpgroup() * 16;
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const int place = first_row + half * 8 + LaneOfWarp() / 4;
      WriteNeuron<Half>(task, unit, tile, place, half != 0, sums[strip], sums[1]);
    }
  }
}

template <typename Half, bool kGated>
__device__ __forceinline__ void ConsumeUp(const MlpUpTask& task, const StageRing& ring) {
  constexpr OperandLayout kAlong = OperandLayout::kAlongDepth;
  StageReader<kUpArrival> reader(ring);
  const int stages = Stages(task.model_dim);
  ForEachUpTile<kGated>(task, [&](const MlpUnit& unit, const UpTile<kGated>& tile) {
    UpSums sums = {};
    reader.Multiply(stages, [&](const unsigned char* stage) {
      const unsigned char* rows = stage + Consumer() * 2 * Tile::kBlockBytes;
      const uint64_t a = DescribeAlongDepth(rows);
      const uint64_t b = DescribeAlongDepth(stage + Tile::kWideBytes);
#pragma unroll
      for (uint32_t k = 0; k < kOperandRowBytes; k += 32) {
        WgmmaFromShared<Half, Tile::kNarrowLines, kAlong, kAlong>(sums[0], Advance(a, k),
                                                                  Advance(b, k), true);
        WgmmaFromShared<Half, Tile::kNarrowLines, kAlong, kAlong>(
            sums[1], Advance(a, Tile::kBlockBytes + k), Advance(b, k), true);
      }
    });
    UpEpilogue<Half>(task, unit, tile, sums);
  });
}

template <typename Half, bool kGated>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    UpKernel(const __grid_constant__ MlpUpTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  const StageRing ring(SharedMemory());
  ring.Begin();
  if (IsProducer()) {
    RegistersDown<Tile::kProducerRegisters>();
    ProduceUp<Half, kGated>(task, ring);
  } else {
    RegistersUp<Tile::kConsumerRegisters>();
    ConsumeUp<Half, kGated>(task, ring);
  }
}

// ---- second product -----------------------------------------------------------------------------

// Tiles of the second product whose units have tokens and chosen neurons: the unit and the tile's
// first column.
template <typename Body>
__device__ __forceinline__ void ForEachDownTile(const MlpDownTask& task, const Body& body) {
  ForEachTile(task.schedule, [&](int64_t unit_number, int tile_number) {
    const MlpUnit unit(task, unit_number);
    if (unit.count > 0 && unit.first_token < task.tokens) {
      body(unit, tile_number * Tile::kWideLines);
    }
  });
}

// The place of piece `piece` of row `row` of an operand whose blocks of 64 columns follow each
// other.
__device__ __forceinline__ uint32_t AcrossDepthOffset(int row, int piece) {
  return static_cast<uint32_t>(piece / kPieces * Tile::kBlockBytes) +
         OperandOffset(static_cast<uint32_t>(row), static_cast<uint32_t>(piece % kPieces));
}

// The output that the epilogue will want, into the L2 cache.
__device__ inline void PrefetchOutput(const MlpDownTask& task, const MlpUnit& unit,
                                      int first_column) {
  const int element = static_cast<int>(SizeOf(task.output_type));
  const int columns = kLineBytes / element, lines = Tile::kWideLines / columns;
  const int tokens =
      min(min(kMlpUnitTokens, task.group_size - unit.first), task.tokens - unit.first_token);
  const auto* output = static_cast<const unsigned char*>(task.output_cache);
#pragma unroll 1
  for (int i = WarpgroupThread(); i < tokens * lines; i += Tile::kWarpgroup) {
    const int token = unit.first_token + i / lines, column = first_column + i % lines * columns;
    if (column >= task.model_dim) continue;
    PrefetchL2(output +
               (unit.batch * task.output_batch_stride + token * task.output_stride + column) *
                   element);
  }
}

template <typename Half>
__device__ __forceinline__ void ProduceDown(const MlpDownTask& task, const StageRing& ring) {
  constexpr int kRowPieces = Tile::kNarrowLines / kVector;   // of a row of the delta
  constexpr int kDeltaStep = Tile::kWarpgroup / kRowPieces;  // rows of the delta at once
  constexpr int kDeltaCopies = Tile::kDepth / kDeltaStep;
  constexpr int kWarps = Tile::kWarpgroup / 32;
  constexpr int kRowsOfWarp = Tile::kDepth / kWarps;  // of W2^T, a row of 256 columns at once
  constexpr uint32_t kNone = 0xFFFFFFFFu;
  StageWriter<kDownArrival> writer(ring);
  const int piece = WarpgroupThread() % kRowPieces, row = WarpgroupThread() / kRowPieces;
  const int warp = WarpOfWarpgroup(), lane = LaneOfWarp();
  ForEachDownTile(task, [&](const MlpUnit& unit, int first_column) {
    const int stages = Stages(unit.count);
    const bool has_tokens = unit.first + piece * kVector < task.group_size;
    const Half* delta = static_cast<const Half*>(task.delta) +
                        unit.group * task.capacity * task.group_size + unit.first;
    const int column = first_column + lane * kVector;
    const Half* weights = static_cast<const Half*>(task.fc2_weight_transposed);
    const int32_t* indices = task.indices + unit.group * task.capacity;
    // Of row warp + kWarps * lane of the stage that begins with neuron `first` of the list.
    const auto fetch = [&](int first) -> uint32_t {
      const int place = first + warp + kWarps * lane;
      if (lane >= kRowsOfWarp || place >= unit.count) return kNone;
      return static_cast<uint32_t>(indices[place]);
    };
    uint32_t chosen = fetch(0);
    for (int stage = 0; stage < stages; ++stage) {
      const int first = stage * Tile::kDepth;
      const uint32_t next = fetch(first + Tile::kDepth);  // no copy waits for its index
      unsigned char* wide = writer.Begin();
      unsigned char* narrow = wide + Tile::kWideBytes;
      if (stage == stages / 2) PrefetchOutput(task, unit, first_column);
#pragma unroll
      for (int i = 0; i < kDeltaCopies; ++i) {
        const int r = row + kDeltaStep * i;
        const bool inside = has_tokens && first + r < unit.count;
        CpAsync16(narrow + AcrossDepthOffset(r, piece),
                  inside
                      ? delta + static_cast<int64_t>(first + r) * task.group_size + piece * kVector
                      : delta,
                  inside);
      }
#pragma unroll
      for (int i = 0; i < kRowsOfWarp; ++i) {
        const uint32_t neuron = __shfl_sync(kFullWarp, chosen, i);
        const bool inside = column < task.model_dim && neuron < static_cast<uint32_t>(task.neurons);
        CpAsync16(
            wide + AcrossDepthOffset(warp + kWarps * i, lane),
            inside ? weights + static_cast<int64_t>(neuron) * task.model_dim + column : weights,
            inside);
      }
      writer.Copied();
      chosen = next;
    }
  });
  writer.Finish();
}

using DownSums = float[Tile::kWideLines / 2];

// output[column 8 j + 2 t, + 1] += sums of one row, for 16 of the j at a time: that many reads are
// under way at once.
__device__ __forceinline__ void AddFloats(float* output, int columns, const DownSums& sums,
                                          int half) {
  constexpr int kTogether = 16;
#pragma unroll
  for (int first = 0; first < Tile::kWideLines / 8; first += kTogether) {
    float2 values[kTogether];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const auto* place = reinterpret_cast<const float2*>(output + 8 * (first + j));
      values[j] = 8 * (first + j) < columns ? *place : float2{0, 0};
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      if (8 * (first + j) >= columns) continue;
      const float* sum = sums + 4 * (first + j) + 2 * half;
      *reinterpret_cast<float2*>(output + 8 * (first + j)) = {values[j].x + sum[0],
                                                              values[j].y + sum[1]};
    }
  }
}

// The same in 16-bit elements, 32 columns at a time: 16 bytes a lane, transposed among four.
template <typename Half>
__device__ __forceinline__ void AddHalves(uint16_t* output, int columns, bool has_row,
                                          const DownSums& sums, int half) {
  const int own = LaneOfWarp() % 4 * kVector;
#pragma unroll
  for (int first = 0; first < Tile::kWideLines / 8; first += 4) {
    const bool inside = has_row && 8 * first + own < columns;
    auto* place = reinterpret_cast<uint4*>(output + 8 * first + own);
    const uint4 bits = inside ? *place : uint4{0, 0, 0, 0};
    uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
    QuadTranspose(words);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* sum = sums + 4 * (first + i) + 2 * half;
      const float2 value = UnpackPair<Half>(words[i]);
      words[i] = PackPair<Half>(value.x + sum[0], value.y + sum[1]);
    }
    QuadTranspose(words);
    if (inside) *place = {words[0], words[1], words[2], words[3]};
  }
}

__device__ __forceinline__ void DownEpilogue(const MlpDownTask& task, const MlpUnit& unit,
                                             int first_column, const DownSums& sums) {
  const int columns = task.model_dim - first_column;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = Consumer() * 64 + WarpOfWarpgroup() * 16 + half * 8 + LaneOfWarp() / 4;
    const int token = unit.first_token + row;
    const bool has_row = unit.first + row < task.group_size && token < task.tokens;
    const int64_t offset =
        unit.batch * task.output_batch_stride + token * task.output_stride + first_column;
    if (task.output_type == DType::kF32) {
      float* output = static_cast<float*>(task.output_cache) + offset + LaneOfWarp() % 4 * 2;
      if (has_row) AddFloats(output, columns, sums, half);
    } else {
      auto* output = static_cast<uint16_t*>(task.output_cache) + offset;
      if (task.output_type == DType::kBF16) {
        AddHalves<BFloat16>(output, columns, has_row, sums, half);
      } else {
        AddHalves<Float16>(output, columns, has_row, sums, half);
      }
    }
  }
}

template <typename Half>
__device__ __forceinline__ void ConsumeDown(const MlpDownTask& task, const StageRing& ring) {
  constexpr OperandLayout kAcross = OperandLayout::kAcrossDepth;
  StageReader<kDownArrival> reader(ring);
  ForEachDownTile(task, [&](const MlpUnit& unit, int first_column) {
    DownSums sums = {};
    reader.Multiply(Stages(unit.count), [&](const unsigned char* stage) {
      const unsigned char* tokens = stage + Tile::kWideBytes + Consumer() * Tile::kBlockBytes;
      const uint64_t a = DescribeAcrossDepth(tokens, Tile::kBlockBytes);
      const uint64_t b = DescribeAcrossDepth(stage, Tile::kBlockBytes);
      constexpr uint32_t kStep = 16 * kOperandRowBytes;
#pragma unroll
      for (uint32_t k = 0; k < Tile::kDepth / 16; ++k) {
        WgmmaFromShared<Half, Tile::kWideLines, kAcross, kAcross>(sums, Advance(a, k * kStep),
                                                                  Advance(b, k * kStep), true);
      }
    });
    DownEpilogue(task, unit, first_column, sums);
  });
}

template <typename Half>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    DownKernel(const __grid_constant__ MlpDownTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  const StageRing ring(SharedMemory());
  ring.Begin();
  if (IsProducer()) {
    RegistersDown<Tile::kProducerRegisters>();
    ProduceDown<Half>(task, ring);
  } else {
    RegistersUp<Tile::kConsumerRegisters>();
    ConsumeDown<Half>(task, ring);
  }
}

// Bands of about 32 units, all about as wide.
ProductSchedule ScheduleOf(int64_t units, int64_t tiles) {
  constexpr int64_t kBand = 32;
  const int64_t bands = std::max<int64_t>(1, units / kBand);
  return {.units = units, .tiles = tiles, .band = (units + bands - 1) / bands};
}

int64_t TilesOf(int64_t lines, int64_t per_tile) { return (lines + per_tile - 1) / per_tile; }

}  // namespace

bool ServesMlpUp(const MlpUpTask& task, bool gated) {
  const int64_t rows = (gated ? 2 : 1) * int64_t{task.neurons};
  return task.neurons > 0 && task.model_dim > 0 && rows * task.fc1_stride / kVector <= UINT32_MAX;
}

void ColumnSparseMlpUp(Stream& stream, const MlpUpTask& task, DType dtype, bool gated) {
  const int64_t neurons = gated ? UpTile<true>::kNeurons : UpTile<false>::kNeurons;
  MlpUpTask scheduled = task;
  scheduled.schedule = ScheduleOf(task.schedule.units, TilesOf(task.capacity, neurons));
  const LaunchShape launch =
      StagedLaunch("column-sparse MLP, first product, sm90a", stream, scheduled.schedule);
  if (dtype == DType::kBF16) {
    Launch(gated ? UpKernel<BFloat16, true> : UpKernel<BFloat16, false>, launch, stream, scheduled);
  } else {
    Launch(gated ? UpKernel<Float16, true> : UpKernel<Float16, false>, launch, stream, scheduled);
  }
}

void ColumnSparseMlpDown(Stream& stream, const MlpDownTask& task, DType dtype) {
  MlpDownTask scheduled = task;
  scheduled.schedule = ScheduleOf(task.schedule.units, TilesOf(task.model_dim, Tile::kWideLines));
  const LaunchShape launch =
      StagedLaunch("column-sparse MLP, second product, sm90a", stream, scheduled.schedule);
  if (dtype == DType::kBF16) {
    Launch(DownKernel<BFloat16>, launch, stream, scheduled);
  } else {
    Launch(DownKernel<Float16>, launch, stream, scheduled);
  }
}

}  // namespace tamias::cuda::sm90a
