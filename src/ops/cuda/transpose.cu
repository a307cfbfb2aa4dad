// A transposition in tiles of 32 x 32 that pass through shared memory, so that rows are read and
// written in runs of 32 elements.
#include "ops/transpose.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/float8.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"

namespace tamias::cuda {
namespace {

constexpr int kTile = 32;
constexpr int kRowsAtATime = 8;
constexpr int kThreads = kTile * kRowsAtATime;

struct TransposeTask {
  const void* input;
  const float* row_scales;  // null: none, the input is not of 8 bits
  void* output;
  DType input_type, output_type;
  int64_t rows, columns, stride;  // of the input
};

__global__ void __launch_bounds__(kThreads) TransposeKernel(TransposeTask task) {
  CheckLaunchBounds<kThreads>();
  __shared__ float tile[kTile][kTile + 1];  // one more: a column lies in 32 banks
  const int x = static_cast<int>(threadIdx.x % kTile), y = static_cast<int>(threadIdx.x / kTile);
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kTile;
  for (int i = y; i < kTile; i += kRowsAtATime) {
    const int64_t row = first_row + i, column = first_column + x;
    if (row < task.rows && column < task.columns) {
      const int64_t place = row * task.stride + column;
      tile[i][x] = task.row_scales != nullptr
                       ? kFloat8Unit * task.row_scales[row] * LoadFloat8(task.input, place)
                       : LoadOne(task.input, task.input_type, place);
    }
  }
  __syncthreads();
  for (int i = y; i < kTile; i += kRowsAtATime) {
    const int64_t row = first_row + x, column = first_column + i;
    if (row < task.rows && column < task.columns) {
      StoreOne(task.output, task.output_type, column * task.rows + row, tile[x][i]);
    }
  }
}

}  // namespace

void Transpose(Stream& stream, ConstTensorView input, TensorView output) {
  constexpr std::string_view kName = "transpose";
  constexpr int64_t kMaxGrid = 65535;  // along y
  CheckRange(kName, "input: rows", input.dim(0), 0, kMaxGrid * kTile);
  const TransposeTask task{.input = input.raw(),
                           .row_scales = input.row_scales(),
                           .output = output.raw(),
                           .input_type = input.dtype(),
                           .output_type = output.dtype(),
                           .rows = input.dim(0),
                           .columns = input.dim(1),
                           .stride = input.stride(0)};
  const dim3 grid(static_cast<unsigned>((task.columns + kTile - 1) / kTile),
                  static_cast<unsigned>((task.rows + kTile - 1) / kTile));
  Launch(TransposeKernel, {.name = "transpose", .grid = grid, .block = kThreads}, stream, task);
}

}  // namespace tamias::cuda
