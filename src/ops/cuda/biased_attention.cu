// Attention for encoders and the autoencoder, any head dimension: per block of query rows
//   scores = Q K^T, weights = softmax(scale scores + bias), output = weights V
// as two products on the tensor cores with a softmax between. Scores and weights of a block of rows
// go through memory, which bounds the scratch; heads of 512 elements would not fit the registers of
// attention_kernel.cuh.
#include "ops/biased_attention.h"

#include <algorithm>

#include "ops/cuda/block_sum.cuh"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/gathered_product.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows_operand.cuh"
#include "ops/cuda/scratch.h"
#include "ops/cuda/shared_memory.cuh"

namespace tamias::cuda {
namespace {

using Tile = ProductTile;

// A matrix per head, [B, H, rows, columns] with last stride 1.
struct Heads {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t batch_stride = 0, head_stride = 0, row_stride = 0;
  int heads = 1;  // H

  Heads() = default;
  explicit Heads(const ConstTensorView& view)
      : data(const_cast<void*>(view.raw())),
        dtype(view.dtype()),
        batch_stride(view.stride(0)),
        head_stride(view.stride(1)),
        row_stride(view.stride(2)),
        heads(static_cast<int>(view.dim(1))) {}

  // The offset of a row of head `item` = b H + h.
  __device__ int64_t Row(unsigned item, int64_t row) const {
    return item / heads * batch_stride + item % heads * head_stride + row * row_stride;
  }
  template <typename Half>
  __device__ const Half* RowData(unsigned item, int64_t row) const {
    return static_cast<const Half*>(data) + Row(item, row);
  }
};

// C[row, column] = sum over k of A[row, k] B; one tile of one head a block.
struct ProductTask {
  Heads a, b, c;
  int rows, columns, depth;
  int keys;  // rows of B
  ProductSchedule schedule;
};

// Rows first to first + 127 of a matrix, contiguous along K.
template <typename Half>
__device__ RowsOperand<Half> RowsOf(const Heads& matrix, int first, int rows, int depth) {
  return RowsOperand<Half>(matrix.data, depth, [&](int line) -> const Half* {
    return first + line < rows ? matrix.RowData<Half>(blockIdx.y, first + line) : nullptr;
  });
}

// Columns first to first + 127 of the values, a row per key.
template <typename Half>
class ValuesOperand {
 public:
  using Layout = LineFastest;

  __device__ ValuesOperand(const ProductTask& task, int first)
      : rows_(task.b.RowData<Half>(blockIdx.y, 0)),
        stride_(task.b.row_stride),
        keys_(task.keys),
        column_(first + Layout::LineVector() * kVector),
        inside_(column_ < task.columns) {}

  __device__ void Copy(unsigned char* operand, int k) const {
#pragma unroll
    for (int i = 0; i < Tile::kCopies; ++i) {
      const int key = k + Layout::Depth(i);
      const bool inside = inside_ && key < keys_;
      CpAsync16(operand + Layout::Offset(Layout::Depth(i), Layout::LineVector()),
                inside ? rows_ + key * stride_ + column_ : rows_, inside);
    }
  }

 private:
  const Half* rows_;
  int64_t stride_;
  int keys_, column_;
  bool inside_;
};

// kTransposed: B is [columns, depth], the keys; otherwise [depth, columns], the values.
template <typename Half, bool kTransposed>
__global__ void __launch_bounds__(Tile::kThreads, 2) HeadProductKernel(ProductTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  unsigned char* shared = SharedMemory();
  const ProductSchedule::Place place = task.schedule.Of(blockIdx.x);
  const int first_row = static_cast<int>(place.unit) * Tile::kLines;
  const int first_column = static_cast<int>(place.tile) * Tile::kLines;
  RowsOperand<Half> a = RowsOf<Half>(task.a, first_row, task.rows, task.depth);
  Accumulators accumulators;
  if constexpr (kTransposed) {
    RowsOperand<Half> b = RowsOf<Half>(task.b, first_column, task.keys, task.depth);
    MultiplyGathered<Half>(a, b, task.depth, shared, accumulators);
  } else {
    ValuesOperand<Half> b(task, first_column);
    MultiplyGathered<Half>(a, b, task.depth, shared, accumulators);
  }
  const int column = first_column + VectorColumn();
  ForEachVector(accumulators, shared, [&](int line, const Floats8& v) {
    const int row = first_row + line;
    if (row >= task.rows || column >= task.columns) return;
    Store8(task.c.data, task.c.dtype, task.c.Row(blockIdx.y, row) + column, v);
  });
}

struct SoftmaxTask {
  Heads scores, weights;  // [B, H, rows, keys in whole vectors]
  Heads bias;             // data may be null
  int first_query;        // the query of row 0
  int keys;
  float scale;  // in units of log2(e), as the scores are from here on
  bool causal;
};

constexpr int kThreads = 128;
constexpr float kLog2E = 1.44269504f;

// Scores j to j + 7 of a row with scale and bias, -inf from `seen` on.
__device__ Floats8 BiasedScores(const SoftmaxTask& task, int64_t scores, int64_t bias, int j,
                                int seen) {
  Floats8 s = Load8(task.scores.data, task.scores.dtype, scores + j);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    s[i] *= task.scale;
    if (task.bias.data != nullptr && j + i < seen) {
      s[i] += kLog2E * LoadOne(task.bias.data, task.bias.dtype, bias + j + i);
    }
    if (j + i >= seen) s[i] = -INFINITY;
  }
  return s;
}

// One block per row and head.
__global__ void __launch_bounds__(kThreads) SoftmaxKernel(SoftmaxTask task) {
  CheckLaunchBounds<kThreads>();
  constexpr int kWarps = kThreads / 32;
  __shared__ float maxima[kWarps], sums[kWarps];
  const int row = static_cast<int>(blockIdx.x), query = task.first_query + row;
  const int seen = task.causal ? query + 1 : task.keys;
  const int64_t scores = task.scores.Row(blockIdx.y, row);
  const int64_t bias = task.bias.Row(blockIdx.y, query);
  const int first = static_cast<int>(threadIdx.x) * kVector;
  constexpr int kStep = kThreads * kVector;

  float largest = -INFINITY;
  for (int j = first; j < seen; j += kStep) {
    const Floats8 s = BiasedScores(task, scores, bias, j, seen);
    for (int i = 0; i < kVector; ++i) largest = s[i] > largest ? s[i] : largest;
  }
  largest = WarpMax<32>(largest);
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = largest;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) largest = maxima[w] > largest ? maxima[w] : largest;

  float sum = 0;
  for (int j = first; j < seen; j += kStep) {
    const Floats8 s = BiasedScores(task, scores, bias, j, seen);
    for (int i = 0; i < kVector; ++i) sum += Exp2(s[i] - largest);
  }
  const float inverse = 1 / BlockSum<kWarps>(sum, sums);
  const int64_t weights = task.weights.Row(blockIdx.y, row);
  for (int j = first; j < task.keys; j += kStep) {
    Floats8 s = BiasedScores(task, scores, bias, j, seen);
    for (int i = 0; i < kVector; ++i) s[i] = Exp2(s[i] - largest) * inverse;
    Store8(task.weights.data, task.weights.dtype, weights + j, s);
  }
}

constexpr const char* kName = "biased attention";

template <bool kTransposed>
void Multiply(Stream& stream, const ConstTensorView& a, const ConstTensorView& b, int64_t depth,
              const TensorView& c) {
  const ProductTask task{.a = Heads(a),
                         .b = Heads(b),
                         .c = Heads(c),
                         .rows = static_cast<int>(a.dim(2)),
                         .columns = static_cast<int>(c.dim(3)),
                         .depth = static_cast<int>(depth),
                         .keys = static_cast<int>(b.dim(2)),
                         .schedule = {.units = (a.dim(2) + Tile::kLines - 1) / Tile::kLines,
                                      .tiles = (c.dim(3) + Tile::kLines - 1) / Tile::kLines}};
  LaunchShape launch = ProductLaunch(kName, task.schedule);
  launch.grid.y = static_cast<unsigned>(a.dim(0) * a.dim(1));
  if (b.dtype() == DType::kBF16) {
    Launch(HeadProductKernel<BFloat16, kTransposed>, launch, stream, task);
  } else {
    Launch(HeadProductKernel<Float16, kTransposed>, launch, stream, task);
  }
}

void Check(const BiasedAttentionInputs& inputs, const TensorView& output) {
  const ConstTensorView& query = inputs.query;
  CheckHalves(kName, "query", query);
  CheckMultiple(kName, "query: head dimension", query.dim(3), kVector);
  CheckVectorRows(kName, "query", query);
  CheckVectorRows(kName, "key", inputs.key);
  CheckVectorRows(kName, "value", inputs.value);
  CheckVectorRows(kName, "output", output);
  constexpr int64_t kMost = int64_t{1} << 30, kMaxGridY = 65535;
  CheckRange(kName, "query: heads", query.dim(0) * query.dim(1), 0, kMaxGridY);
  CheckRange(kName, "query: rows", query.dim(2), 0, kMost);
  CheckRange(kName, "key: rows", inputs.key.dim(2), 0, kMost);
}

// The bias of every head: none, the same for all, or its own, and the same for all batch items.
Heads BiasOf(const BiasedAttentionInputs& inputs) {
  Heads bias;
  if (inputs.bias.empty()) return bias;
  bias.data = const_cast<void*>(inputs.bias.raw());
  bias.dtype = inputs.bias.dtype();
  bias.head_stride = inputs.bias.dim(0) == 1 ? 0 : inputs.bias.stride(0);
  bias.row_stride = inputs.bias.stride(1);
  bias.heads = static_cast<int>(inputs.query.dim(1));
  return bias;
}

}  // namespace

void BiasedAttention(Stream& stream, const BiasedAttentionInputs& inputs, TensorView scratch,
                     TensorView output) {
  Check(inputs, output);
  if (output.NumElements() == 0) return;
  const int64_t batch = output.dim(0), heads = output.dim(1), queries = output.dim(2);
  const int64_t keys = inputs.key.dim(2);
  int64_t most = ScoredRows(batch * heads, queries, keys);
  const auto available = static_cast<size_t>(scratch.NumElements());
  while (most > Tile::kLines && ScoreBytes(batch * heads, most, keys) > available) {
    most = (most - 1) / Tile::kLines * Tile::kLines;
  }
  Scratch memory(kName, scratch, ScoreBytes(batch * heads, most, keys));
  const Shape shape = {batch, heads, most, WholeVectors(keys)};
  const TensorView all_scores = memory.Take(shape, DType::kF32);
  const TensorView all_weights = memory.Take(shape, inputs.value.dtype());
  for (int64_t begin = 0; begin < queries; begin += most) {
    const int64_t rows = std::min(most, queries - begin);
    const TensorView scores = all_scores.Slice(2, 0, rows), weights = all_weights.Slice(2, 0, rows);
    Multiply<true>(stream, inputs.query.Slice(2, begin, begin + rows), inputs.key, output.dim(3),
                   scores);
    const SoftmaxTask task{.scores = Heads(scores),
                           .weights = Heads(weights),
                           .bias = BiasOf(inputs),
                           .first_query = static_cast<int>(begin),
                           .keys = static_cast<int>(keys),
                           .scale = kLog2E * inputs.scale,
                           .causal = inputs.causal};
    const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(batch * heads));
    Launch(SoftmaxKernel, {.name = "softmax of biased attention", .grid = grid, .block = kThreads},
           stream, task);
    Multiply<false>(stream, weights, inputs.value, keys, output.Slice(2, begin, begin + rows));
  }
}

}  // namespace tamias::cuda
