// The conversion from 8-bit floats, which costs the memory it moves: a warp per row, 256 codes of
// it at a time.
#include "ops/dequantise.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/float8.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarps = kThreads / 32;

struct DequantiseTask {
  const void* matrix;
  const float* scales;
  void* output;
  DType output_type;
  int64_t rows, columns, stride;  // of the matrix
  bool has_whole_vectors;         // of eight, in all rows of both
};

__global__ void __launch_bounds__(kThreads) DequantiseKernel(DequantiseTask task) {
  CheckLaunchBounds<kThreads>();
  const unsigned lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= task.rows) return;
  const float scale = kFloat8Unit * task.scales[row];
  const int64_t from = row * task.stride, to = row * task.columns;
  if (!task.has_whole_vectors) {
    for (int64_t k = lane; k < task.columns; k += 32) {
      StoreOne(task.output, task.output_type, to + k, scale * LoadFloat8(task.matrix, from + k));
    }
    return;
  }
#pragma unroll 4
  for (int64_t k = lane * kVector; k < task.columns; k += 32 * kVector) {
    Floats8 values = LoadFloat8s(task.matrix, from + k);
    for (int i = 0; i < kVector; ++i) values[i] *= scale;
    Store8(task.output, task.output_type, to + k, values);
  }
}

}  // namespace

void Dequantise(Stream& stream, ConstTensorView matrix, TensorView output) {
  if (output.NumElements() == 0) return;
  const auto address = reinterpret_cast<uintptr_t>(matrix.raw());
  const DequantiseTask task{
      .matrix = matrix.raw(),
      .scales = matrix.row_scales(),
      .output = output.raw(),
      .output_type = output.dtype(),
      .rows = matrix.dim(0),
      .columns = matrix.dim(1),
      .stride = matrix.stride(0),
      .has_whole_vectors = address % kVector == 0 && matrix.stride(0) % kVector == 0 &&
                           matrix.dim(1) % kVector == 0 &&
                           reinterpret_cast<uintptr_t>(output.raw()) % kVectorBytes == 0};
  Launch(DequantiseKernel,
         {.name = "dequantise",
          .grid = static_cast<unsigned>((task.rows + kWarps - 1) / kWarps),
          .block = kThreads},
         stream, task);
}

}  // namespace tamias::cuda
