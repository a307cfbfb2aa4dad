// Gated residual and norm of rows: one block per row (x of the grid) of several streams (y), with
// the row in registers. Mean first, then the variance about it, which keeps it as exact as the
// reference's; then output = (x - mean) * rstd * gain + offset.
#include "ops/residual.h"

#include <algorithm>

#include "ops/cuda/block_sum.cuh"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/row_norm.h"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr int kHeld = 4;  // vectors of a row that a thread holds
constexpr size_t kMaxStreams = 4;

struct RowsOf {
  void* data = nullptr;  // null: there are none
  DType dtype = DType::kF32;
  RowOffsets offsets;
};

// A factor or a term per column: one vector for all rows, or one per batch item.
struct Coefficients {
  const void* data = nullptr;  // null: none
  DType dtype = DType::kF32;
  int64_t batch_stride = 0;
};

struct StreamTask {
  RowsOf x, branch, output;
  Coefficients gate, gain, offset;
  int64_t rows, rows_per_batch, columns;
};

struct RowNormTask {
  StreamTask streams[kMaxStreams];
  float epsilon;
  float gain_bias;  // added to the gain: 1 for a modulation's scale
  bool centred;     // layer norm; otherwise RMS norm
  bool norms_branch;
};

__device__ Floats8 LoadRow(const RowsOf& rows, int64_t offset) {
  return Load8(rows.data, rows.dtype, offset);
}

__device__ Floats8 LoadCoefficients(const Coefficients& coefficients, int64_t batch, int64_t column,
                                    float otherwise) {
  if (coefficients.data == nullptr) {
    Floats8 result;
    for (int i = 0; i < kVector; ++i) result[i] = otherwise;
    return result;
  }
  return Load8(coefficients.data, coefficients.dtype, batch * coefficients.batch_stride + column);
}

// The vector of 8 columns that a thread of kThreads holds in place `held`.
template <unsigned kThreads>
__device__ int64_t Column(int held) {
  return (static_cast<int64_t>(held) * kThreads + threadIdx.x) * kVector;
}

// x += gate * branch, or gate * RmsNorm(branch), in registers and in memory.
template <unsigned kThreads>
__device__ void AddBranch(const RowNormTask& task, const StreamTask& stream, int64_t row,
                          int64_t batch, int64_t x_row, float (&warp_sums)[kThreads / 32],
                          Floats8 (&x)[kHeld]) {
  const int64_t branch_row = stream.branch.offsets(row);
  float factor = 1;
  if (task.norms_branch) {
    float square = 0;
#pragma unroll
    for (int held = 0; held < kHeld; ++held) {
      const int64_t column = Column<kThreads>(held);
      if (column >= stream.columns) continue;
      const Floats8 y = LoadRow(stream.branch, branch_row + column);
      for (int i = 0; i < kVector; ++i) square += y[i] * y[i];
    }
    square = BlockSum<kThreads / 32>(square, warp_sums);
    factor = 1 / sqrtf(square / static_cast<float>(stream.columns) + task.epsilon);
  }
#pragma unroll
  for (int held = 0; held < kHeld; ++held) {
    const int64_t column = Column<kThreads>(held);
    if (column >= stream.columns) continue;
    const Floats8 y = LoadRow(stream.branch, branch_row + column);
    const Floats8 gate = LoadCoefficients(stream.gate, batch, column, 1);
    for (int i = 0; i < kVector; ++i) x[held][i] += gate[i] * (factor * y[i]);
    Store8(stream.x.data, stream.x.dtype, x_row + column, x[held]);
  }
}

template <unsigned kThreads>
__global__ void __launch_bounds__(kThreads)
    RowNormKernel(const __grid_constant__ RowNormTask task) {
  CheckLaunchBounds<kThreads>();
  constexpr int kWarps = kThreads / 32;
  __shared__ float sums[3][kWarps];
  const StreamTask& stream = task.streams[blockIdx.y];
  const int64_t row = blockIdx.x;
  if (row >= stream.rows) return;  // the whole block
  const int64_t batch = row / stream.rows_per_batch;
  const int64_t x_row = stream.x.offsets(row);
  const auto width = static_cast<float>(stream.columns);
  Floats8 x[kHeld];
#pragma unroll
  for (int held = 0; held < kHeld; ++held) {
    const int64_t column = Column<kThreads>(held);
    x[held] = column < stream.columns ? LoadRow(stream.x, x_row + column) : Floats8{};
  }
  if (stream.branch.data != nullptr) {
    AddBranch<kThreads>(task, stream, row, batch, x_row, sums[0], x);
  }
  if (stream.output.data == nullptr) return;
  float mean = 0;
  if (task.centred) {
#pragma unroll
    for (int held = 0; held < kHeld; ++held) {
      for (int i = 0; i < kVector; ++i) mean += x[held][i];
    }
    mean = BlockSum<kWarps>(mean, sums[1]) / width;
  }
  float square = 0;
#pragma unroll
  for (int held = 0; held < kHeld; ++held) {
    if (Column<kThreads>(held) >= stream.columns) continue;
    for (int i = 0; i < kVector; ++i) square += (x[held][i] - mean) * (x[held][i] - mean);
  }
  const float rstd = 1 / sqrtf(BlockSum<kWarps>(square, sums[2]) / width + task.epsilon);
  const int64_t output_row = stream.output.offsets(row);
#pragma unroll
  for (int held = 0; held < kHeld; ++held) {
    const int64_t column = Column<kThreads>(held);
    if (column >= stream.columns) continue;
    const Floats8 gain = LoadCoefficients(stream.gain, batch, column, 1 - task.gain_bias);
    const Floats8 offset = LoadCoefficients(stream.offset, batch, column, 0);
    for (int i = 0; i < kVector; ++i) {
      x[held][i] = (x[held][i] - mean) * rstd * (task.gain_bias + gain[i]) + offset[i];
    }
    Store8(stream.output.data, stream.output.dtype, output_row + column, x[held]);
  }
}

RowsOf CheckedRows(std::string_view operation, std::string_view argument, const TensorView& view) {
  if (view.empty()) return {};
  CheckVectorRows(operation, argument, view);
  return {view.raw(), view.dtype(), RowOffsets(view)};
}

Coefficients CheckedCoefficients(std::string_view operation, std::string_view argument,
                                 const ConstTensorView& view) {
  if (view.empty()) return {};
  CheckVectorRows(operation, argument, view);
  return {view.raw(), view.dtype(), view.rank() == 2 ? view.stride(0) : 0};
}

StreamTask MakeStream(std::string_view operation, const ResidualRows& rows) {
  CheckMultiple(operation, "input: columns", rows.x.dim(-1), kVector);
  const bool is_per_item = rows.x.rank() == 3;
  return {.x = CheckedRows(operation, "input", rows.x),
          .branch = CheckedRows(operation, "branch", rows.branch),
          .output = CheckedRows(operation, "output", rows.output),
          .gate = CheckedCoefficients(operation, "gate", rows.gate),
          .gain = CheckedCoefficients(operation, "gain", rows.gain),
          .offset = CheckedCoefficients(operation, "offset", rows.offset),
          .rows = NumRows(rows.x),
          .rows_per_batch = std::max<int64_t>(is_per_item ? rows.x.dim(1) : NumRows(rows.x), 1),
          .columns = rows.x.dim(-1)};
}

template <unsigned kThreads>
void LaunchFor(Stream& stream, const char* operation, const dim3& grid, const RowNormTask& task) {
  Launch(RowNormKernel<kThreads>, {.name = operation, .grid = grid, .block = kThreads}, stream,
         task);
}

void Run(Stream& stream, const char* operation, std::span<const ResidualRows> streams,
         const ResidualNormOptions& options) {
  RowNormTask task{.streams = {},
                   .epsilon = options.epsilon,
                   .gain_bias = options.is_modulation ? 1.0f : 0.0f,
                   .centred = options.norm == NormKind::kLayer,
                   .norms_branch = options.norms_branch};
  int64_t rows = 0, columns = 0;
  for (size_t i = 0; i < streams.size(); ++i) {
    task.streams[i] = MakeStream(operation, streams[i]);
    rows = std::max(rows, task.streams[i].rows);
    columns = std::max(columns, task.streams[i].columns);
  }
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(streams.size()));
  constexpr int64_t kColumns = kHeld * kVector;  // of a thread
  CheckRange(operation, "input: columns", columns, 0, 1024 * kColumns);
  if (columns <= 128 * kColumns) return LaunchFor<128>(stream, operation, grid, task);
  if (columns <= 256 * kColumns) return LaunchFor<256>(stream, operation, grid, task);
  LaunchFor<1024>(stream, operation, grid, task);
}

}  // namespace

void RowNorm(Stream& stream, const char* operation, std::span<const ResidualRows> streams,
             const ResidualNormOptions& options) {
  for (; streams.size() > kMaxStreams; streams = streams.subspan(kMaxStreams)) {
    Run(stream, operation, streams.first(kMaxStreams), options);
  }
  if (!streams.empty()) Run(stream, operation, streams, options);
}

void ResidualNorm(Stream& stream, std::span<const ResidualRows> streams,
                  const ResidualNormOptions& options) {
  RowNorm(stream, "residual norm", streams, options);
}

}  // namespace tamias::cuda
