// One kernel for all element-wise operations: output[i] = operation(a[i], b[i]) in fp32, eight
// elements a thread. Operands may be f32, f16 or bf16 in any mixture, of any rank, with rows that
// lie apart; contiguous operands count as one long row.
#pragma once

#include <algorithm>
#include <bit>

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {

constexpr unsigned kElementwiseThreads = 256;

struct ElementwiseOperand {
  void* data = nullptr;
  DType dtype = DType::kF32;
  RowOffsets offsets;
};

struct ElementwiseTask {
  ElementwiseOperand a, b, output;  // b.data may be null: the operation has one operand
  int64_t rows, columns;
  unsigned threads_per_row;  // a power of two; the threads of a block cover several short rows
};

template <typename Operation>
__global__ void __launch_bounds__(kElementwiseThreads)
    ElementwiseKernel(ElementwiseTask task, Operation operation) {
  CheckLaunchBounds<kElementwiseThreads>();
  const unsigned rows_per_block = kElementwiseThreads / task.threads_per_row;
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * task.threads_per_row +
                          threadIdx.x % task.threads_per_row) *
                         kVector;
  const int64_t count = task.columns - column;
  if (count <= 0) return;
  for (int64_t row =
           static_cast<int64_t>(blockIdx.y) * rows_per_block + threadIdx.x / task.threads_per_row;
       row < task.rows; row += static_cast<int64_t>(gridDim.y) * rows_per_block) {
    Floats8 a = LoadFirst(task.a.data, task.a.dtype, task.a.offsets(row) + column, count);
    Floats8 b{};
    if (task.b.data != nullptr) {
      b = LoadFirst(task.b.data, task.b.dtype, task.b.offsets(row) + column, count);
    }
    for (int i = 0; i < kVector; ++i) a[i] = operation(a[i], b[i]);
    StoreFirst(task.output.data, task.output.dtype, task.output.offsets(row) + column, count, a);
  }
}

inline ElementwiseOperand OperandOf(const ConstTensorView& view, bool one_row) {
  return {const_cast<void*>(view.raw()), view.dtype(), one_row ? RowOffsets() : RowOffsets(view)};
}

// Runs output = operation(a, b); b may be empty.
template <typename Operation>
void Elementwise(Stream& stream, const char* name, Operation operation, ConstTensorView a,
                 ConstTensorView b, TensorView output) {
  if (output.NumElements() == 0) return;
  const bool one_row = a.IsContiguous() && output.IsContiguous() && (b.empty() || b.IsContiguous());
  const auto check = [&](const char* argument, const ConstTensorView& view) {
    CheckVectorRows(name, argument,
                    one_row && !view.empty() ? view.Reshape({view.NumElements()}) : view);
  };
  check("first operand", a);
  check("second operand", b);
  check("output", output);
  const int64_t columns = one_row ? output.NumElements() : output.dim(-1);
  const int64_t rows = output.NumElements() / columns;
  const int64_t vectors = (columns + kVector - 1) / kVector;
  const auto threads_per_row = static_cast<unsigned>(
      std::min<uint64_t>(std::bit_ceil(static_cast<uint64_t>(vectors)), kElementwiseThreads));
  const int64_t rows_per_block = kElementwiseThreads / threads_per_row;
  const ElementwiseTask task{.a = OperandOf(a, one_row),
                             .b = b.empty() ? ElementwiseOperand{} : OperandOf(b, one_row),
                             .output = OperandOf(output, one_row),
                             .rows = rows,
                             .columns = columns,
                             .threads_per_row = threads_per_row};
  constexpr int64_t kMaxGridY = 65535;  // beyond it a block takes several rows in turn
  const dim3 grid(
      static_cast<unsigned>((vectors + threads_per_row - 1) / threads_per_row),
      static_cast<unsigned>(std::min((rows + rows_per_block - 1) / rows_per_block, kMaxGridY)));
  Launch(ElementwiseKernel<Operation>, {.name = name, .grid = grid, .block = kElementwiseThreads},
         stream, task, operation);
}

}  // namespace tamias::cuda
