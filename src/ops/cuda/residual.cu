// The gated residual, x[b, n, :] += gate[b, :] * y[b, n, :]: one block per token.
#include "ops/residual.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 128;

struct ResidualTask {
  void* x;
  const void* y;
  const void* gate;
  DType x_type, y_type, gate_type;
  RowOffsets x_rows, y_rows;
  int64_t gate_stride, tokens, columns;
};

__global__ void __launch_bounds__(kThreads) GatedResidualKernel(ResidualTask task) {
  CheckLaunchBounds<kThreads>();
  const int64_t row = blockIdx.x;
  const int64_t x_row = task.x_rows(row), y_row = task.y_rows(row);
  const int64_t gate_row = row / task.tokens * task.gate_stride;
  for (int64_t c = threadIdx.x * kVector; c < task.columns; c += kThreads * kVector) {
    Floats8 x = Load8(task.x, task.x_type, x_row + c);
    const Floats8 y = Load8(task.y, task.y_type, y_row + c);
    const Floats8 gate = Load8(task.gate, task.gate_type, gate_row + c);
    for (int i = 0; i < kVector; ++i) x[i] += gate[i] * y[i];
    Store8(task.x, task.x_type, x_row + c, x);
  }
}

}  // namespace

void GatedResidual(Stream& stream, TensorView x, ConstTensorView gate, ConstTensorView y) {
  constexpr std::string_view kName = "gated residual";
  CheckVectorRows(kName, "x", x);
  CheckVectorRows(kName, "gate", gate);
  CheckVectorRows(kName, "y", y);
  CheckMultiple(kName, "x: columns", x.dim(2), kVector);
  if (x.NumElements() == 0) return;
  const ResidualTask task{.x = x.raw(),
                          .y = y.raw(),
                          .gate = gate.raw(),
                          .x_type = x.dtype(),
                          .y_type = y.dtype(),
                          .gate_type = gate.dtype(),
                          .x_rows = RowOffsets(x),
                          .y_rows = RowOffsets(y),
                          .gate_stride = gate.stride(0),
                          .tokens = x.dim(1),
                          .columns = x.dim(2)};
  Launch(GatedResidualKernel,
         {.name = "gated residual", .grid = static_cast<unsigned>(NumRows(x)), .block = kThreads},
         stream, task);
}

}  // namespace tamias::cuda
