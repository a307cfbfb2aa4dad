// Table lookup: eight elements of a row a thread.
#include "ops/embedding.h"

#include <algorithm>

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr int kThreads = 128;

struct EmbeddingTask {
  const void* table;
  const int32_t* ids;
  void* output;
  DType table_type, output_type;
  int64_t table_stride, entries, columns;
};

__global__ void __launch_bounds__(kThreads) EmbeddingKernel(EmbeddingTask task) {
  CheckLaunchBounds<kThreads>();
  const int64_t row = blockIdx.x, id = task.ids[row];
  const bool is_entry = id >= 0 && id < task.entries;
  for (int64_t c = threadIdx.x * kVector; c < task.columns; c += kThreads * kVector) {
    const Floats8 values =
        is_entry ? Load8(task.table, task.table_type, id * task.table_stride + c) : Floats8{};
    Store8(task.output, task.output_type, row * task.columns + c, values);
  }
}

}  // namespace

void Embedding(Stream& stream, ConstTensorView table, ConstTensorView ids, TensorView output) {
  constexpr std::string_view kName = "embedding";
  CheckVectorRows(kName, "table", table);
  CheckMultiple(kName, "table: columns", table.dim(1), kVector);
  CheckRange(kName, "ids: number", ids.NumElements(), 0, INT32_MAX);
  CheckVectorRows(kName, "output", output);
  if (output.NumElements() == 0) return;
  const EmbeddingTask task{.table = table.raw(),
                           .ids = ids.data<int32_t>(),
                           .output = output.raw(),
                           .table_type = table.dtype(),
                           .output_type = output.dtype(),
                           .table_stride = table.stride(0),
                           .entries = table.dim(0),
                           .columns = table.dim(1)};
  Launch(EmbeddingKernel,
         {.name = "embedding", .grid = static_cast<unsigned>(ids.NumElements()), .block = kThreads},
         stream, task);
}

}  // namespace tamias::cuda
