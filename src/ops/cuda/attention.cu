// Dense attention on a GPU, with log-sum-exp and column sums: see ops/attention.h; the kernel is in
// attention_kernel.cuh, that of compute capability 9.0 in attention_kernel_sm90a.cuh.
#include "ops/attention.h"

#include "ops/cuda/attention_launch.cuh"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda {
namespace {

// A tile of many rows reads K and V least often; one of few rows leaves no multiprocessor idle.
int32_t DenseTileRows(const Stream& stream, int64_t heads, int64_t rows) {
  const int64_t tiles = heads * ((rows + 16 * kManyWarps - 1) / (16 * kManyWarps));
  return 16 * (tiles >= stream.properties().multiprocessors ? kManyWarps : kFewWarps);
}

template <typename T>
void RunDense(Stream& stream, const AttentionInputs& inputs, const TensorView& output,
              const TensorView& log_sum_exp) {
  const ConstTensorView& query = inputs.query;
  const int64_t heads = query.dim(0) * query.dim(1);
  const int32_t tile_rows = DenseTileRows(stream, heads, query.dim(2));
  AttentionArguments<T> arguments = ArgumentsOf<T>(inputs, output, log_sum_exp);
  arguments.schedule = ScheduleOfTiles(arguments.queries, tile_rows, tile_rows);
  const AttentionLaunch<AttentionKeys::kAll, AttentionByProduct::kNone> launch{
      "dense attention", stream, heads, inputs.causal};
  launch.Run(arguments, query.dim(3));
}

template <typename T>
void RunColumnSums(Stream& stream, const AttentionInputs& inputs,
                   const ConstTensorView& previous_log_sum_exp, int64_t group_size,
                   const TensorView& output, const TensorView& log_sum_exp,
                   const TensorView& column_sums) {
  const ConstTensorView& query = inputs.query;
  AttentionArguments<T> arguments =
      ColumnSumArgumentsOf<T>(inputs, previous_log_sum_exp, output, log_sum_exp, column_sums);
  const auto rows = static_cast<int32_t>(std::min<int64_t>(group_size, arguments.queries));
  arguments.schedule = ScheduleOfGroups(arguments.queries, rows, TileRowsFor(rows));
  const AttentionLaunch<AttentionKeys::kAll, AttentionByProduct::kColumnSums> launch{
      "dense attention with column sums", stream, query.dim(0) * query.dim(1), inputs.causal};
  launch.Run(arguments, query.dim(3));
}

}  // namespace

void DenseAttention(Stream& stream, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp) {
  CheckAttentionKernel("dense attention", inputs, output);
  if (inputs.query.NumElements() == 0) return;
  if (TakesWarpgroups(stream, inputs, inputs.query.dim(2))) {
    sm90a::DenseAttention(stream, inputs, output, log_sum_exp);
  } else if (inputs.query.dtype() == DType::kBF16) {
    RunDense<BFloat16>(stream, inputs, output, log_sum_exp);
  } else {
    RunDense<Float16>(stream, inputs, output, log_sum_exp);
  }
}

void DenseAttentionColumnSums(Stream& stream, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums) {
  CheckAttentionKernel("dense attention with column sums", inputs, output);
  if (inputs.query.NumElements() == 0) return;
  if (inputs.key.dim(2) == 0) {
    DenseAttention(stream, inputs, output, log_sum_exp);
  } else if (TakesWarpgroups(stream, inputs, std::min(group_size, inputs.query.dim(2)))) {
    sm90a::DenseAttentionColumnSums(stream, inputs, previous_log_sum_exp, group_size, output,
                                    log_sum_exp, column_sums);
  } else if (inputs.query.dtype() == DType::kBF16) {
    RunColumnSums<BFloat16>(stream, inputs, previous_log_sum_exp, group_size, output, log_sum_exp,
                            column_sums);
  } else {
    RunColumnSums<Float16>(stream, inputs, previous_log_sum_exp, group_size, output, log_sum_exp,
                           column_sums);
  }
}

}  // namespace tamias::cuda
