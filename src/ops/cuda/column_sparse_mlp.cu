// The column-sparse MLP delta on the tensor cores, for compute capability 8.0 and later
// (column_sparse_mlp_sm90a.cu is for 9.0 alone). Per unit (up to 128 tokens of one group) with
// the chosen neurons S:
//   first product   A = W1[S] (rows gathered), B = X^T: C[neuron, token]; epilogue: bias,
//   activation
//                   (gate), delta against the cached activations, and the new ones into the cache
//   second product  A = delta^T, B = W2^T[S] (rows gathered): C[token, column of the model];
//                   epilogue: added to the output cache
// Cached activations and delta have tokens along the fastest axis, as on the CPU: that is how the
// first product leaves them and how ldmatrix takes them for the second, and a chosen neuron is one
// run of group_size elements.
#include "ops/column_sparse_mlp.h"

#include <algorithm>

#include "ops/cuda/check_operand.h"
#include "ops/cuda/column_sparse_mlp_task.cuh"
#include "ops/cuda/gathered_product.cuh"
#include "ops/cuda/kernel_family.h"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows_operand.cuh"
#include "ops/cuda/shared_memory.cuh"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda {
namespace {

using Tile = ProductTile;

// Rows j of the delta, from the unit's first token on.
template <typename Half>
class DeltaOperand {
 public:
  using Layout = LineFastest;

  __device__ DeltaOperand(const MlpDownTask& task, const MlpUnit& unit)
      : rows_(static_cast<const Half*>(task.delta) + unit.group * task.capacity * task.group_size +
              unit.first),
        stride_(task.group_size),
        count_(unit.count),
        width_(task.group_size - unit.first) {}

  __device__ void Copy(unsigned char* operand, int k) const {
    const int token = Layout::LineVector() * kVector;
#pragma unroll
    for (int i = 0; i < Tile::kCopies; ++i) {
      const int j = k + Layout::Depth(i);
      const bool inside = j < count_ && token < width_;
      CpAsync16(operand + Layout::Offset(Layout::Depth(i), Layout::LineVector()),
                inside ? rows_ + static_cast<int64_t>(j) * stride_ + token : rows_, inside);
    }
  }

 private:
  const Half* rows_;
  int stride_, count_, width_;
};

// Columns first_column to first_column + 127 of the chosen rows of W2^T. The indices of the next
// stage are fetched a stage ahead, so that no copy waits for them.
template <typename Half>
class ChosenRowsOperand {
 public:
  using Layout = LineFastest;

  __device__ ChosenRowsOperand(const MlpDownTask& task, const MlpUnit& unit, int first_column)
      : matrix_(static_cast<const Half*>(task.fc2_weight_transposed)),
        indices_(task.indices + unit.group * task.capacity),
        count_(unit.count),
        neurons_(task.neurons),
        model_dim_(task.model_dim),
        column_(first_column + Layout::LineVector() * kVector) {
    FetchIndices(0);
  }

  __device__ void Copy(unsigned char* operand, int k) {
#pragma unroll
    for (int i = 0; i < Tile::kCopies; ++i) {
      const bool inside = column_ < model_dim_ && next_[i] < static_cast<uint32_t>(neurons_);
      const Half* source = matrix_ + static_cast<int64_t>(next_[i]) * model_dim_ + column_;
      CpAsync16(operand + Layout::Offset(Layout::Depth(i), Layout::LineVector()),
                inside ? source : matrix_, inside);
    }
    FetchIndices(k + Tile::kDepth);
  }

 private:
  static constexpr uint32_t kNone = 0xFFFFFFFFu;

  __device__ void FetchIndices(int k) {
#pragma unroll
    for (int i = 0; i < Tile::kCopies; ++i) {
      const int j = k + Layout::Depth(i);
      next_[i] = j < count_ ? static_cast<uint32_t>(indices_[j]) : kNone;
    }
  }

  const Half* matrix_;
  const int32_t* indices_;
  int count_, neurons_, model_dim_, column_;
  uint32_t next_[Tile::kCopies];
};

// The neurons of one tile of the first product. A gated tile has 64 of them: the lines of a warp
// are 32 rows of the first half of W1 and the same 32 of the second, so that one thread holds both
// values of a neuron.
template <bool kGated>
struct NeuronTile : ChosenNeurons {
  static constexpr int kNeurons = kGated ? Tile::kLines / 2 : Tile::kLines;
  static constexpr int kStrips = kGated ? 2 : 1;
  static constexpr int kRowTiles = Tile::kRowTiles / kStrips;

  // The row of W1 that belongs to a line of A, or -1.
  __device__ int64_t WeightRow(int line) const {
    if (!kGated) return Neuron(line);
    const int neuron = Neuron(line / 64 * 32 + line % 32);
    return neuron < 0 ? -1 : neuron + static_cast<int64_t>(line / 32 % 2) * neurons;
  }
};

// Eight tokens of one neuron: the new activations into the cache, what they moved by into the
// delta. The move is taken between rounded values: added up over many steps, the deltas then follow
// the cache, and the output does not drift from it.
template <typename Half>
__device__ void WriteDelta(const Floats8& hidden, Half* cached, Half* delta) {
  constexpr DType kType = DTypeOf<Half>::value;
  const Floats8 before = Load8(cached, kType, 0);
  Store8(cached, kType, 0, hidden);
  const uint4 rounded = vector::Pack8<Half>(hidden);
  Floats8 change = vector::Unpack8<Half>(rounded);
  for (int i = 0; i < kVector; ++i) change[i] -= before[i];
  Store8(delta, kType, 0, change);
}

template <typename Half, bool kGated>
__device__ void UpEpilogue(const MlpUpTask& task, const MlpUnit& unit,
                           const NeuronTile<kGated>& neuron_tile, int first_place,
                           const Accumulators& accumulators, unsigned char* shared) {
  using Neurons = NeuronTile<kGated>;
  const WarpPlace place;
  float* strip = WarpStrip::Of(shared, Neurons::kStrips);
  Half* cache =
      static_cast<Half*>(task.cached_activations) + unit.group * task.neurons * task.group_size;
  Half* delta = static_cast<Half*>(task.delta) + unit.group * task.capacity * task.group_size;
  const int token = unit.first + place.first_column + WarpStrip::Column();
#pragma unroll
  for (int t = 0; t < Neurons::kRowTiles; ++t) {
    WarpStrip::Store(accumulators.c[t], strip);
    if (kGated) {
      WarpStrip::Store(accumulators.c[(t + Neurons::kRowTiles) % Tile::kRowTiles],
                       strip + WarpStrip::kFloats);
    }
    __syncwarp();
#pragma unroll 1
    for (int i = 0; i < WarpStrip::kVectors; ++i) {
      const int line = place.first_row / Neurons::kStrips + 16 * t + WarpStrip::Row(i);
      const int neuron = neuron_tile.Neuron(line);
      if (line >= neuron_tile.count || token >= task.group_size) continue;
      Half* target = delta + static_cast<int64_t>(first_place + line) * task.group_size + token;
      if (neuron < 0) {  // not a neuron: the second product multiplies by zeros, so no NaN here
        Store8(target, DTypeOf<Half>::value, 0, Floats8{});
        continue;
      }
      const Floats8 hidden =
          HiddenOf<kGated>(task, BiasOfNeuron<kGated>(task, neuron), WarpStrip::Load(strip, i),
                           kGated ? WarpStrip::Load(strip + WarpStrip::kFloats, i) : Floats8{});
      WriteDelta<Half>(hidden, cache + static_cast<int64_t>(neuron) * task.group_size + token,
                       target);
    }
    __syncwarp();
  }
}

template <typename Half, bool kGated>
__global__ void __launch_bounds__(Tile::kThreads, 2) UpKernel(MlpUpTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  unsigned char* shared = SharedMemory();
  const ProductSchedule::Place place = task.schedule.Of(blockIdx.x);
  const MlpUnit unit(task, place.unit);
  const int first_place = static_cast<int>(place.tile) * NeuronTile<kGated>::kNeurons;
  if (first_place >= unit.count || unit.first_token >= task.tokens) return;
  const NeuronTile<kGated> neuron_tile{{task.indices + unit.group * task.capacity + first_place,
                                        unit.count - first_place, task.neurons}};
  RowsOperand<Half> weights(task.fc1_weight, task.model_dim, [&](int line) -> const Half* {
    const int64_t row = neuron_tile.WeightRow(line);
    return row < 0 ? nullptr : static_cast<const Half*>(task.fc1_weight) + row * task.fc1_stride;
  });
  RowsOperand<Half> tokens(task.input, task.model_dim, [&](int line) -> const Half* {
    const int token = unit.first_token + line;
    if (unit.first + line >= task.group_size || token >= task.tokens) return nullptr;
    return static_cast<const Half*>(task.input) + unit.batch * task.input_batch_stride +
           token * task.input_stride;
  });
  Accumulators accumulators;
  MultiplyGathered<Half>(weights, tokens, task.model_dim, shared, accumulators);
  UpEpilogue<Half, kGated>(task, unit, neuron_tile, first_place, accumulators, shared);
}

__device__ inline void DownEpilogue(const MlpDownTask& task, const MlpUnit& unit, int first_column,
                                    const Accumulators& accumulators, unsigned char* shared) {
  const int column = first_column + VectorColumn();
  ForEachVector(accumulators, shared, [&](int line, const Floats8& change) {
    const int token = unit.first_token + line;
    if (unit.first + line >= task.group_size || token >= task.tokens) return;
    if (column >= task.model_dim) return;
    const int64_t offset =
        unit.batch * task.output_batch_stride + token * task.output_stride + column;
    Floats8 sum = Load8(task.output_cache, task.output_type, offset);
    for (int k = 0; k < kVector; ++k) sum[k] += change[k];
    Store8(task.output_cache, task.output_type, offset, sum);
  });
}

template <typename Half>
__global__ void __launch_bounds__(Tile::kThreads, 2) DownKernel(MlpDownTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  unsigned char* shared = SharedMemory();
  const ProductSchedule::Place place = task.schedule.Of(blockIdx.x);
  const MlpUnit unit(task, place.unit);
  if (unit.count == 0 || unit.first_token >= task.tokens) return;
  const int first_column = static_cast<int>(place.tile) * Tile::kLines;
  DeltaOperand<Half> delta(task, unit);
  ChosenRowsOperand<Half> weights(task, unit, first_column);
  Accumulators accumulators;
  MultiplyGathered<Half>(delta, weights, unit.count, shared, accumulators);
  DownEpilogue(task, unit, first_column, accumulators, shared);
}

// cached[b, g, f, i] = activations[b, g * group_size + i, f], 64 tokens x 64 neurons a block.
struct StoreTask {
  const uint16_t* activations;  // [B, N, F], f16 or bf16 as bits
  int64_t batch_stride, stride;
  uint16_t* cached;  // [B * G, F, group_size]
  int tokens, neurons, groups, group_size;
};

constexpr int kStoreSide = 64;
constexpr unsigned kStoreThreads = 128;

__global__ void __launch_bounds__(kStoreThreads) StoreActivationsKernel(StoreTask task) {
  CheckLaunchBounds<kStoreThreads>();
  constexpr int kPitch = kStoreSide / 2 + 1;  // in pairs: columns then lie on different banks
  constexpr int kVectors = kStoreSide / kVector;
  __shared__ uint32_t tile[kStoreSide * kPitch];
  const int64_t group = blockIdx.z, batch = group / task.groups;
  const int first_neuron = static_cast<int>(blockIdx.x) * kStoreSide;
  const int first = static_cast<int>(blockIdx.y) * kStoreSide;  // token of the group
  const int first_token = static_cast<int>(group % task.groups) * task.group_size + first;
  for (unsigned i = threadIdx.x; i < kStoreSide * kVectors; i += kStoreThreads) {
    const int row = static_cast<int>(i) / kVectors, vector = static_cast<int>(i) % kVectors;
    const int neuron = first_neuron + vector * kVector;
    uint4 bits{0, 0, 0, 0};
    if (first_token + row < task.tokens && neuron < task.neurons) {
      bits = *reinterpret_cast<const uint4*>(task.activations + batch * task.batch_stride +
                                             (first_token + row) * task.stride + neuron);
    }
    uint32_t* target = tile + row * kPitch + vector * 4;
    target[0] = bits.x;
    target[1] = bits.y;
    target[2] = bits.z;
    target[3] = bits.w;
  }
  __syncthreads();
  for (unsigned i = threadIdx.x; i < kStoreSide * kVectors; i += kStoreThreads) {
    const int column = static_cast<int>(i) / kVectors,
              token = static_cast<int>(i) % kVectors * kVector;
    if (first_neuron + column >= task.neurons || first + token >= task.group_size) continue;
    uint32_t pairs[4];
    for (int k = 0; k < 4; ++k) {
      const uint32_t* source = tile + (token + 2 * k) * kPitch + column / 2;
      const int shift = column % 2 * 16;
      pairs[k] = ((source[0] >> shift) & 0xFFFFu) | ((source[kPitch] >> shift) << 16);
    }
    uint16_t* target = task.cached +
                       (group * task.neurons + first_neuron + column) * task.group_size + first +
                       token;
    *reinterpret_cast<uint4*>(target) = {pairs[0], pairs[1], pairs[2], pairs[3]};
  }
}

constexpr std::string_view kName = "column-sparse MLP";

struct MlpShape {
  int64_t batch, tokens, model_dim, neurons, groups, capacity, units_per_group;
  DType dtype;
  int64_t units() const { return batch * groups * units_per_group; }
};

void CheckHalfRows(std::string_view argument, const ConstTensorView& view, DType dtype) {
  CheckAlike(kName, argument, view, dtype);
  CheckVectorRows(kName, argument, view);
}

MlpShape CheckedShape(const ConstTensorView& rows, std::string_view rows_name,
                      const NeuronSelection& selection, int64_t neurons, DType dtype) {
  CheckVectorRows(kName, rows_name, rows);
  CheckRange(kName, "group_size", selection.group_size, kVector, INT32_MAX);
  CheckMultiple(kName, "group_size", selection.group_size, kVector);
  CheckMultiple(kName, "model width", rows.dim(2), kVector);
  for (const int64_t size :
       {rows.dim(1) + selection.group_size, rows.dim(2), 2 * neurons, selection.indices.dim(2)}) {
    CheckRange(kName, "sizes", size, 0, INT32_MAX - Tile::kLines);
  }
  return {.batch = rows.dim(0),
          .tokens = rows.dim(1),
          .model_dim = rows.dim(2),
          .neurons = neurons,
          .groups = selection.indices.dim(1),
          .capacity = selection.indices.dim(2),
          .units_per_group = (selection.group_size + Tile::kLines - 1) / Tile::kLines,
          .dtype = dtype};
}

template <bool kGated>
void RunUp(Stream& stream, MlpUpTask& task, const MlpShape& shape) {
  constexpr int64_t kNeurons = NeuronTile<kGated>::kNeurons;
  task.schedule.tiles = (shape.capacity + kNeurons - 1) / kNeurons;
  if (task.schedule.blocks() == 0) return;
  const LaunchShape launch = ProductLaunch("column-sparse MLP, first product", task.schedule);
  if (shape.dtype == DType::kBF16) {
    Launch(UpKernel<BFloat16, kGated>, launch, stream, task);
  } else {
    Launch(UpKernel<Float16, kGated>, launch, stream, task);
  }
}

}  // namespace

bool MultipliesFloat8(const Stream& stream, const ConstTensorView& fc1_weight) {
  const bool is_in_vectors = fc1_weight.dim(1) % kVectorBytes == 0 &&
                             (fc1_weight.dtype() != DType::kF8E4M3 ||
                              (fc1_weight.stride(0) % kVectorBytes == 0 &&
                               reinterpret_cast<uintptr_t>(fc1_weight.raw()) % kVectorBytes == 0));
  return KernelFamilyOf(stream) == KernelFamily::kSm90a && is_in_vectors &&
         fc1_weight.NumElements() > 0;
}

void ColumnSparseMlpUp(Stream& stream, ConstTensorView input, const MlpWeights& weights,
                       const NeuronSelection& selection, TensorView cached_activations,
                       TensorView delta, const float* input_scales) {
  const DType dtype = cached_activations.dtype();
  const DType factor = input_scales == nullptr ? dtype : DType::kF8E4M3;
  CheckHalves(kName, "cached_activations", cached_activations);
  CheckAlike(kName, "input", input, factor);
  CheckHalfRows("fc1_weight", weights.fc1_weight, factor);
  CheckHalfRows("cached_activations", cached_activations, dtype);
  CheckHalfRows("delta", delta, dtype);
  const int64_t neurons = cached_activations.dim(2);
  const MlpShape shape = CheckedShape(input, "input", selection, neurons, dtype);
  const auto per_pair = static_cast<int64_t>(SizeOf(dtype) / SizeOf(factor));
  MlpUpTask task{.input = input.raw(),
                 .input_batch_stride = input.stride(0) / per_pair,
                 .input_stride = input.stride(1) / per_pair,
                 .input_scales = input_scales,
                 .fc1_weight = weights.fc1_weight.raw(),
                 .fc1_stride = weights.fc1_weight.stride(0) / per_pair,
                 .fc1_scales = weights.fc1_weight.row_scales(),
                 .fc1_bias = weights.fc1_bias.raw(),
                 .bias_type = weights.fc1_bias.dtype(),
                 .indices = selection.indices.data<int32_t>(),
                 .counts = selection.counts.data<int32_t>(),
                 .cached_activations = cached_activations.raw(),
                 .delta = delta.raw(),
                 .tokens = static_cast<int>(shape.tokens),
                 .model_dim = static_cast<int>(shape.model_dim / per_pair),
                 .neurons = static_cast<int>(neurons),
                 .groups = static_cast<int>(shape.groups),
                 .capacity = static_cast<int>(shape.capacity),
                 .group_size = static_cast<int>(selection.group_size),
                 .units_per_group = static_cast<int>(shape.units_per_group),
                 .gate_first = weights.gate_first,
                 .activation = weights.activation,
                 .schedule = {.units = shape.units(), .tiles = 0}};
  if (KernelFamilyOf(stream) == KernelFamily::kSm90a && sm90a::ServesMlpUp(task, weights.gated)) {
    return sm90a::ColumnSparseMlpUp(stream, task, shape.dtype, weights.gated);
  }
  TAMIAS_CHECK(!task.IsFloat8());
  weights.gated ? RunUp<true>(stream, task, shape) : RunUp<false>(stream, task, shape);
}

void ColumnSparseMlpDown(Stream& stream, ConstTensorView delta, const MlpWeights& weights,
                         const NeuronSelection& selection, TensorView output_cache) {
  const ConstTensorView& fc2 = weights.fc2_weight_transposed;
  CheckHalves(kName, "fc2_weight_transposed", fc2);
  CheckVectorRows(kName, "fc2_weight_transposed", fc2);
  CheckHalfRows("delta", delta, fc2.dtype());
  const MlpShape shape =
      CheckedShape(output_cache, "output_cache", selection, fc2.dim(0), fc2.dtype());
  const MlpDownTask task{
      .delta = delta.raw(),
      .fc2_weight_transposed = fc2.raw(),
      .indices = selection.indices.data<int32_t>(),
      .counts = selection.counts.data<int32_t>(),
      .output_cache = output_cache.raw(),
      .output_type = output_cache.dtype(),
      .output_batch_stride = output_cache.stride(0),
      .output_stride = output_cache.stride(1),
      .tokens = static_cast<int>(shape.tokens),
      .model_dim = static_cast<int>(shape.model_dim),
      .neurons = static_cast<int>(shape.neurons),
      .groups = static_cast<int>(shape.groups),
      .capacity = static_cast<int>(shape.capacity),
      .group_size = static_cast<int>(selection.group_size),
      .units_per_group = static_cast<int>(shape.units_per_group),
      .schedule = {.units = shape.units(),
                   .tiles = (shape.model_dim + Tile::kLines - 1) / Tile::kLines}};
  if (task.schedule.blocks() == 0 || shape.capacity == 0) return;
  if (KernelFamilyOf(stream) == KernelFamily::kSm90a) {
    return sm90a::ColumnSparseMlpDown(stream, task, shape.dtype);
  }
  const LaunchShape launch = ProductLaunch("column-sparse MLP, second product", task.schedule);
  if (shape.dtype == DType::kBF16) {
    Launch(DownKernel<BFloat16>, launch, stream, task);
  } else {
    Launch(DownKernel<Float16>, launch, stream, task);
  }
}

void ColumnSparseMlp(Stream& stream, ConstTensorView input, const MlpWeights& weights,
                     const NeuronSelection& selection, TensorView cached_activations,
                     TensorView delta, TensorView output_cache, const float* input_scales) {
  ColumnSparseMlpUp(stream, input, weights, selection, cached_activations, delta, input_scales);
  ColumnSparseMlpDown(stream, delta, weights, selection, output_cache);
}

void StoreActivations(Stream& stream, ConstTensorView activations, TensorView cached_activations) {
  constexpr std::string_view kStore = "store activations";
  CheckHalves(kStore, "activations", activations);
  CheckVectorRows(kStore, "activations", activations);
  const int64_t groups = cached_activations.dim(1), group_size = cached_activations.dim(3);
  CheckVectorRows(kStore, "cached_activations", cached_activations);
  CheckMultiple(kStore, "activations: neurons", activations.dim(2), kVector);
  CheckMultiple(kStore, "cached_activations: group_size", group_size, kVector);
  constexpr int64_t kMaxGrid = 65535;
  CheckRange(kStore, "cached_activations: groups", groups * activations.dim(0), 0, kMaxGrid);
  if (cached_activations.NumElements() == 0) return;
  const StoreTask task{.activations = static_cast<const uint16_t*>(activations.raw()),
                       .batch_stride = activations.stride(0),
                       .stride = activations.stride(1),
                       .cached = static_cast<uint16_t*>(cached_activations.raw()),
                       .tokens = static_cast<int>(activations.dim(1)),
                       .neurons = static_cast<int>(activations.dim(2)),
                       .groups = static_cast<int>(groups),
                       .group_size = static_cast<int>(group_size)};
  const auto tiles = [](int64_t size) {
    return static_cast<unsigned>((size + kStoreSide - 1) / kStoreSide);
  };
  const dim3 grid(tiles(activations.dim(2)), tiles(group_size),
                  static_cast<unsigned>(groups * activations.dim(0)));
  Launch(StoreActivationsKernel,
         {.name = "store activations", .grid = grid, .block = kStoreThreads}, stream, task);
}

}  // namespace tamias::cuda
