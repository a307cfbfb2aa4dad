// What both forms of the column-sparse MLP for compute capability 9.0 share (a block by itself, and
// two that share an operand): which rows of W1 a tile takes, and the way of a thread's sums out to
// the caches. Sums lie in pairs, eight columns apart. Four pairs, rounded, are transposed among the
// four lanes that hold a row: 16 bytes each, as the caches are read and written.
#pragma once

#include <type_traits>

#include "ops/cuda/column_sparse_mlp_task.cuh"
#include "ops/cuda/prefetch.cuh"
#include "ops/cuda/quad.cuh"
#include "ops/cuda/staged_product_sm90a.cuh"

namespace tamias::cuda::sm90a {

// The form for groups of a multiple of 256 tokens.
constexpr int kPairTokens = 256;
void ColumnSparseMlpUpInPairs(Stream& stream, const MlpUpTask& task, DType dtype, bool gated);
void ColumnSparseMlpDownInPairs(Stream& stream, const MlpDownTask& task, DType dtype);

constexpr int kPieces = kOperandRowBytes / 16;              // of a row of an operand
constexpr int kRowStep = StagedTile::kWarpgroup / kPieces;  // rows that the producer copies at once
constexpr int kLineBytes = 128;                             // of the L2 cache

__device__ inline int StagesOf(int depth) {
  return (depth + StagedTile::kDepth - 1) / StagedTile::kDepth;
}

// ---- first product ------------------------------------------------------------------------------

// The neurons of a tile of kLines rows of W1: as many, or half as many of a gated MLP, whose rows
// in W1's second half then lie kApart lines behind those in its first.
template <bool kGated, int kLines, int kApart>
struct UpTile : ChosenNeurons {
  static constexpr int kNeurons = kGated ? kLines / 2 : kLines;

  int first_place;  // in the group's list

  __device__ UpTile(const MlpUpTask& task, const MlpUnit& unit, int tile)
      : ChosenNeurons{task.indices + unit.group * task.capacity + tile * kNeurons,
                      unit.count - tile * kNeurons, task.neurons},
        first_place(tile * kNeurons) {}

  // The row of W1 that is line `line` of A; some row where there is none: lines do not mix, and
  // such a line's sums are not used.
  __device__ uint32_t WeightRow(int line) const {
    const int neuron = Neuron(kGated ? line / (2 * kApart) * kApart + line % kApart : line);
    if (neuron < 0) return 0;
    const bool is_second = kGated && line / kApart % 2 != 0;
    return static_cast<uint32_t>(is_second ? neurons + neuron : neuron);
  }
};

// Where rows of W1 begin, in vectors from its beginning: those of lines row, row + kRowStep, ...
template <int kCopies, typename Tile>
__device__ __forceinline__ void WeightOffsets(const MlpUpTask& task, const Tile& tile, int row,
                                              uint32_t (&offsets)[kCopies]) {
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    offsets[i] =
        tile.WeightRow(row + kRowStep * i) * static_cast<uint32_t>(task.fc1_stride / kVector);
  }
}

// The cached activations of `tokens` tokens that the epilogue will want, into the L2 cache.
template <typename Half, typename Tile>
__device__ void PrefetchCached(const MlpUpTask& task, const MlpUnit& unit, const Tile& tile,
                               int tokens) {
  const int lines = tokens * 2 / kLineBytes;
  const auto* cache = static_cast<const Half*>(task.cached_activations) +
                      unit.group * task.neurons * task.group_size + unit.first;
#pragma unroll 1
  for (int i = WarpgroupThread(); i < Tile::kNeurons * lines; i += StagedTile::kWarpgroup) {
    const int neuron = tile.Neuron(i / lines), token = i % lines * (kLineBytes / 2);
    if (neuron < 0 || unit.first + token >= task.group_size) continue;
    PrefetchL2(cache + static_cast<int64_t>(neuron) * task.group_size + token);
  }
}

// Four pairs of the sums of one of the two rows that a thread holds, from column 32 * block on.
__device__ __forceinline__ Floats8 PairsOf(const float* sums, int block, bool is_second_row) {
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

// Pairs of the sums of a row of W1 as what they stand for: of factors of 8 bits, times the scales
// of the row and the tokens.
template <typename Factor>
__device__ __forceinline__ Floats8 Scaled(const MlpUpTask& task, const MlpUnit& unit, int block,
                                          float scale, Floats8 pairs) {
  if constexpr (std::is_same_v<Factor, Float8E4M3>) {
    const int token = unit.first_token + 32 * block + LaneOfWarp() % 4 * 2;
    // Fixed distances from one pointer: an address for each would take registers.
    const float* scales = task.input_scales + unit.batch * task.tokens + token;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const int next = i / 2 * 8 + i % 2;
      pairs[i] *= scale;
      if (token + next < task.tokens) pairs[i] *= scales[next];
    }
  }
  return pairs;
}

// A neuron in kTokens tokens, from the pairs first(block) and, gated, second(block) of its
// products. The new activations go into the cache, what they moved by (between rounded values, as
// in column_sparse_mlp.cu) into the delta.
template <typename Half, typename Factor, bool kGated, int kTokens, typename Tile, typename First,
          typename Second>
__device__ __forceinline__ void WriteNeuron(const MlpUpTask& task, const MlpUnit& unit,
                                            const Tile& tile, int place, const First& first,
                                            const Second& second) {
  constexpr int kTogether = 4;  // blocks whose old activations are read at once
  const bool is_listed = place < tile.count;
  const int neuron = tile.Neuron(place);
  const NeuronBias bias = neuron < 0 ? NeuronBias{} : BiasOfNeuron<kGated>(task, neuron);
  float scale = 1, second_scale = 1;
  if constexpr (std::is_same_v<Factor, Float8E4M3>) {
    scale = task.fc1_scales[max(neuron, 0)];
    if (kGated) second_scale = task.fc1_scales[task.neurons + max(neuron, 0)];
  }
  const int token = unit.first + LaneOfWarp() % 4 * kVector;
  auto* cached = reinterpret_cast<uint4*>(
      static_cast<Half*>(task.cached_activations) +
      (unit.group * task.neurons + max(neuron, 0)) * task.group_size + token);
  auto* delta = reinterpret_cast<uint4*>(
      static_cast<Half*>(task.delta) +
      (unit.group * task.capacity + tile.first_place + place) * task.group_size + token);
#pragma unroll
  for (int begin = 0; begin < kTokens / 32; begin += kTogether) {
    uint4 before[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const bool inside = neuron >= 0 && token + 32 * (begin + i) < task.group_size;
      before[i] = inside ? cached[4 * (begin + i)] : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int block = begin + i;
      const Floats8 hidden =
          HiddenOf<kGated>(task, bias, Scaled<Factor>(task, unit, block, scale, first(block)),
                           Scaled<Factor>(task, unit, block, second_scale, second(block)));
      const uint4 after = PackTransposed<Half>(hidden);
      if (!is_listed || token + 32 * block >= task.group_size) continue;
      if (neuron < 0) {  // not a neuron: the second product multiplies by zeros, so no NaN here
        delta[4 * block] = {0, 0, 0, 0};
        continue;
      }
      Floats8 change = vector::Unpack8<Half>(after);
      const Floats8 old = vector::Unpack8<Half>(before[i]);
#pragma unroll
      for (int k = 0; k < kVector; ++k) change[k] -= old[k];
      cached[4 * block] = after;
      delta[4 * block] = vector::Pack8<Half>(change);
    }
  }
}

// ---- second product -----------------------------------------------------------------------------

// body(unit, first column) for each tile whose unit has tokens and chosen neurons; of kBlocks
// blocks of a cluster each has kColumns columns of its own, which may lie behind the last.
template <int kBlocks, int kUnitTokens, int kColumns, typename Body>
__device__ __forceinline__ void ForEachDownTile(const MlpDownTask& task, int rank,
                                                const Body& body) {
  ForEachTile<kBlocks>(task.schedule, [&](int64_t unit_number, int tile_number) {
    const MlpUnit unit(task, unit_number, kUnitTokens);
    if (unit.count > 0 && unit.first_token < task.tokens) {
      body(unit, (tile_number * kBlocks + rank) * kColumns);
    }
  });
}

// The place of piece `piece` of row `row` of an operand whose blocks of 64 columns follow each
// other.
__device__ __forceinline__ uint32_t AcrossDepthOffset(int row, int piece) {
  return static_cast<uint32_t>(piece / kPieces * StagedTile::kBlockBytes) +
         OperandOffset(static_cast<uint32_t>(row), static_cast<uint32_t>(piece % kPieces));
}

// kTokens columns of rows [first, first + 64) of the delta into a stage; zeros beyond the list.
template <int kTokens, typename Half>
__device__ __forceinline__ void CopyDelta(const MlpDownTask& task, const MlpUnit& unit, int first,
                                          unsigned char* operand) {
  constexpr int kRowPieces = kTokens / kVector;
  constexpr int kStep = StagedTile::kWarpgroup / kRowPieces;
  constexpr int kCopies = StagedTile::kDepth / kStep;
  const int piece = WarpgroupThread() % kRowPieces, row = WarpgroupThread() / kRowPieces;
  const bool has_tokens = unit.first + piece * kVector < task.group_size;
  const Half* delta = static_cast<const Half*>(task.delta) +
                      unit.group * task.capacity * task.group_size + unit.first;
#pragma unroll 8  // more addresses than that take registers
  for (int i = 0; i < kCopies; ++i) {
    const int r = row + kStep * i;
    const bool inside = has_tokens && first + r < unit.count;
    const int64_t offset = static_cast<int64_t>(first + r) * task.group_size + piece * kVector;
    CpAsync16(operand + AcrossDepthOffset(r, piece), inside ? delta + offset : delta, inside);
  }
}

// kColumns columns of the chosen rows of W2^T into stages, one stage of 64 rows after another. A
// warp copies the rows of which its lanes know the indices, kColumns / 8 lanes a row.
template <int kColumns, typename Half>
class ChosenRows {
  static constexpr int kRowPieces = kColumns / kVector;  // 32 or 16
  static constexpr int kRowsAtOnce = 32 / kRowPieces;
  static constexpr int kRowsOfWarp = StagedTile::kDepth / (StagedTile::kWarpgroup / 32);
  static constexpr uint32_t kNone = 0xFFFFFFFFu;

 public:
  __device__ ChosenRows(const MlpDownTask& task, const MlpUnit& unit, int first_column)
      : matrix_(static_cast<const Half*>(task.fc2_weight_transposed)),
        indices_(task.indices + unit.group * task.capacity),
        count_(unit.count),
        neurons_(static_cast<uint32_t>(task.neurons)),
        model_dim_(task.model_dim),
        column_(first_column + LaneOfWarp() % kRowPieces * kVector),
        chosen_(IndexOf(0)) {}

  // Rows [first, first + 64) of the list; the indices of the next 64 are fetched by the way, so
  // that no copy waits for its index.
  __device__ __forceinline__ void Copy(int first, unsigned char* operand) {
    const uint32_t next = IndexOf(first + StagedTile::kDepth);
#pragma unroll
    for (int i = 0; i < kRowsOfWarp / kRowsAtOnce; ++i) {
      const int row = kRowsAtOnce * i + LaneOfWarp() / kRowPieces;
      const uint32_t neuron = __shfl_sync(kFullWarp, chosen_, row);
      const bool inside = column_ < model_dim_ && neuron < neurons_;
      const Half* source = matrix_ + static_cast<int64_t>(neuron) * model_dim_ + column_;
      CpAsync16(operand + AcrossDepthOffset(FirstRow() + row, LaneOfWarp() % kRowPieces),
                inside ? source : matrix_, inside);
    }
    chosen_ = next;
  }

 private:
  static __device__ int FirstRow() { return WarpOfWarpgroup() * kRowsOfWarp; }
  __device__ uint32_t IndexOf(int first) const {
    const int place = first + FirstRow() + LaneOfWarp();
    if (LaneOfWarp() >= kRowsOfWarp || place >= count_) return kNone;
    return static_cast<uint32_t>(indices_[place]);
  }

  const Half* matrix_;
  const int32_t* indices_;
  int count_;
  uint32_t neurons_;
  int model_dim_, column_;
  uint32_t chosen_;
};

// The output of kTokens x kColumns that the epilogue will want, into the L2 cache.
template <int kTokens, int kColumns>
__device__ void PrefetchOutput(const MlpDownTask& task, const MlpUnit& unit, int first_column) {
  const int element = task.output_type == DType::kF32 ? 4 : 2;
  const int columns = kLineBytes / element, lines = kColumns / columns;
  const int tokens =
      min(min(kTokens, task.group_size - unit.first), task.tokens - unit.first_token);
  const auto* output = static_cast<const unsigned char*>(task.output_cache);
#pragma unroll 1
  for (int i = WarpgroupThread(); i < tokens * lines; i += StagedTile::kWarpgroup) {
    const int token = unit.first_token + i / lines, column = first_column + i % lines * columns;
    if (column >= task.model_dim) continue;
    PrefetchL2(output +
               (unit.batch * task.output_batch_stride + token * task.output_stride + column) *
                   element);
  }
}

// output[column 8 j + 2 t, + 1] += sums of one row, for 16 of the j at a time: that many reads are
// under way at once.
template <int kColumns>
__device__ __forceinline__ void AddFloats(float* output, int columns, const float* sums) {
  constexpr int kTogether = 16;
#pragma unroll
  for (int first = 0; first < kColumns / 8; first += kTogether) {
    float2 values[kTogether];
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      const auto* place = reinterpret_cast<const float2*>(output + 8 * (first + j));
      values[j] = 8 * (first + j) < columns ? *place : float2{0, 0};
    }
#pragma unroll
    for (int j = 0; j < kTogether; ++j) {
      if (8 * (first + j) >= columns) continue;
      const float* sum = sums + 4 * (first + j);
      *reinterpret_cast<float2*>(output + 8 * (first + j)) = {values[j].x + sum[0],
                                                              values[j].y + sum[1]};
    }
  }
}

// The same in 16-bit elements, 32 columns at a time: 16 bytes a lane, transposed among four.
template <int kColumns, typename Half>
__device__ __forceinline__ void AddHalves(uint16_t* output, int columns, bool has_row,
                                          const float* sums) {
  const int own = LaneOfWarp() % 4 * kVector;
#pragma unroll
  for (int first = 0; first < kColumns / 8; first += 4) {
    const bool inside = has_row && 8 * first + own < columns;
    auto* place = reinterpret_cast<uint4*>(output + 8 * first + own);
    const uint4 bits = inside ? *place : uint4{0, 0, 0, 0};
    uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
    QuadTranspose(words);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* sum = sums + 4 * (first + i);
      const float2 value = UnpackPair<Half>(words[i]);
      words[i] = PackPair<Half>(value.x + sum[0], value.y + sum[1]);
    }
    QuadTranspose(words);
    if (inside) *place = {words[0], words[1], words[2], words[3]};
  }
}

// Adds the sums of one product of a warpgroup, 64 tokens from `first_row` of the unit on.
template <int kColumns>
__device__ __forceinline__ void AddToOutput(const MlpDownTask& task, const MlpUnit& unit,
                                            int first_row, int first_column,
                                            const float (&sums)[kColumns / 2]) {
  const int columns = task.model_dim - first_column;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first_row + WarpOfWarpgroup() * 16 + half * 8 + LaneOfWarp() / 4;
    const int token = unit.first_token + row;
    const bool has_row = unit.first + row < task.group_size && token < task.tokens;
    const int64_t offset =
        unit.batch * task.output_batch_stride + token * task.output_stride + first_column;
    const float* own = sums + 2 * half;
    if (task.output_type == DType::kF32) {
      float* output = static_cast<float*>(task.output_cache) + offset + LaneOfWarp() % 4 * 2;
      if (has_row) AddFloats<kColumns>(output, columns, own);
    } else {
      auto* output = static_cast<uint16_t*>(task.output_cache) + offset;
      if (task.output_type == DType::kBF16) {
        AddHalves<kColumns, BFloat16>(output, columns, has_row, own);
      } else {
        AddHalves<kColumns, Float16>(output, columns, has_row, own);
      }
    }
  }
}

}  // namespace tamias::cuda::sm90a
