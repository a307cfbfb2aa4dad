// The attention's rest: a thread takes eight elements of a row, D / 8 threads a row.
#include "ops/attention_rest.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 256;

struct RestTask {
  const void* output;
  void* rest;
  DType output_type, rest_type;
  RowOffsets output_rows, rest_rows;
  const float* log_sum_exp;
  const float* selected_log_sum_exp;
  float* rest_log_sum_exp;
  int64_t rows;
  int64_t vectors;  // of a row
};

__global__ void __launch_bounds__(kThreads) AttentionRestKernel(RestTask task) {
  CheckLaunchBounds<kThreads>();
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = thread / task.vectors, column = thread % task.vectors * kVector;
  if (row >= task.rows) return;
  const float total = task.log_sum_exp[row];
  const float exponent = fminf(task.selected_log_sum_exp[row] - total, 0.0f);
  const float share = -expm1f(exponent);  // 1 - w; 0 where both are -inf
  const bool is_nothing = !(share > kMinRestShare);
  Floats8 rest{};
  if (!is_nothing) {
    const Floats8 full = Load8(task.output, task.output_type, task.output_rows(row) + column);
    const Floats8 selected = Load8(task.rest, task.rest_type, task.rest_rows(row) + column);
    for (int i = 0; i < kVector; ++i) rest[i] = (full[i] - (1 - share) * selected[i]) / share;
  }
  Store8(task.rest, task.rest_type, task.rest_rows(row) + column, rest);
  if (column == 0) task.rest_log_sum_exp[row] = is_nothing ? -INFINITY : total + logf(share);
}

}  // namespace

void AttentionRest(Stream& stream, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp) {
  constexpr std::string_view kName = "attention rest";
  CheckVectorRows(kName, "rest", rest);
  CheckVectorRows(kName, "output", partition.output);
  CheckMultiple(kName, "rest: head dimension", rest.dim(3), kVector);
  if (rest.NumElements() == 0) return;
  const RestTask task{.output = partition.output.raw(),
                      .rest = rest.raw(),
                      .output_type = partition.output.dtype(),
                      .rest_type = rest.dtype(),
                      .output_rows = RowOffsets(partition.output),
                      .rest_rows = RowOffsets(rest),
                      .log_sum_exp = partition.log_sum_exp.data<float>(),
                      .selected_log_sum_exp = partition.selected_log_sum_exp.data<float>(),
                      .rest_log_sum_exp = rest_log_sum_exp.data<float>(),
                      .rows = NumRows(rest),
                      .vectors = rest.dim(3) / kVector};
  const int64_t blocks = (task.rows * task.vectors + kThreads - 1) / kThreads;
  Launch(AttentionRestKernel,
         {.name = "attention rest", .grid = static_cast<unsigned>(blocks), .block = kThreads},
         stream, task);
}

}  // namespace tamias::cuda
