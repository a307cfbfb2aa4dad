// Attention on compute capability 9.0: see sm90a.h; the kernel is in attention_kernel_sm90a.cuh.
#include <algorithm>

#include "ops/cuda/attention_arguments.cuh"
#include "ops/cuda/attention_kernel_sm90a.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda::sm90a {
namespace {

constexpr int64_t kFewConsumers = 2, kManyConsumers = 3;

// A launch whose instantiation is chosen below: kernel choices and the arguments by type.
template <AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
struct AttentionLaunch {
  const char* name;
  Stream& stream;
  int64_t heads;  // B * H

  template <typename Traits>
  void Run(const AttentionArguments<typename Traits::T>& arguments) const {
    const int64_t tiles = arguments.schedule.Blocks(heads);
    if (tiles > std::numeric_limits<int32_t>::max() / 2) {
      Fail(ErrorCode::kUnsupported, "{}: {} tiles are too many for one launch", name, tiles);
    }
    const int64_t blocks = std::min<int64_t>(tiles, stream.properties().multiprocessors);
    Launch(&AttentionKernel<Traits, kKeyChoice, kByProduct>,
           LaunchShape{.name = name,
                       .grid = static_cast<unsigned>(blocks),
                       .block = Traits::kThreads,
                       .shared_bytes = size_t{SharedBytes<Traits, kByProduct>()}},
           stream, arguments, static_cast<int32_t>(tiles));
  }

  template <typename T>
  void Run(const AttentionArguments<T>& arguments, int64_t head_dim) const {
    const bool few = arguments.schedule.tile_rows == 64 * kFewConsumers;
    if (head_dim == 64) {
      few ? Run<AttentionTraits<T, 64, kFewConsumers>>(arguments)
          : Run<AttentionTraits<T, 64, kManyConsumers>>(arguments);
    } else {
      few ? Run<AttentionTraits<T, 128, kFewConsumers>>(arguments)
          : Run<AttentionTraits<T, 128, kManyConsumers>>(arguments);
    }
  }
};

// Rows of a tile, 128 or 192, for groups of so many rows: those with which the multiprocessors work
// through fewer rows one after another. 192 read K and V less often.
int32_t TileRowsFor(const Stream& stream, int64_t groups, int64_t rows) {
  const auto rows_in_a_row = [&](int64_t tile_rows) {
    const int64_t multiprocessors = stream.properties().multiprocessors;
    const int64_t tiles = groups * ((rows + tile_rows - 1) / tile_rows);
    return (tiles + multiprocessors - 1) / multiprocessors * tile_rows;
  };
  const bool few = rows_in_a_row(64 * kFewConsumers) < rows_in_a_row(64 * kManyConsumers);
  return static_cast<int32_t>(64 * (few ? kFewConsumers : kManyConsumers));
}

int64_t HeadsOf(const AttentionInputs& inputs) { return inputs.query.dim(0) * inputs.query.dim(1); }

template <typename T>
void RunDense(Stream& stream, const AttentionInputs& inputs, const TensorView& output,
              const TensorView& log_sum_exp) {
  const int64_t heads = HeadsOf(inputs);
  AttentionArguments<T> arguments = ArgumentsOf<T>(inputs, output, log_sum_exp);
  const int32_t tile_rows = TileRowsFor(stream, heads, arguments.queries);
  arguments.schedule = ScheduleOfTiles(arguments.queries, tile_rows, tile_rows);
  const AttentionLaunch<AttentionKeys::kAll, AttentionByProduct::kNone> launch{
      "dense attention, sm90a", stream, heads};
  launch.Run(arguments, inputs.query.dim(3));
}

template <typename T>
void RunColumnSums(Stream& stream, const AttentionInputs& inputs,
                   const ConstTensorView& previous_log_sum_exp, int64_t group_size,
                   const TensorView& output, const TensorView& log_sum_exp,
                   const TensorView& column_sums) {
  const int64_t heads = HeadsOf(inputs);
  AttentionArguments<T> arguments =
      ColumnSumArgumentsOf<T>(inputs, previous_log_sum_exp, output, log_sum_exp, column_sums);
  const auto rows = static_cast<int32_t>(std::min<int64_t>(group_size, arguments.queries));
  arguments.schedule = ScheduleOfGroups(arguments.queries, rows, 0);
  arguments.schedule.tile_rows = TileRowsFor(stream, heads * arguments.schedule.Groups(), rows);
  const AttentionLaunch<AttentionKeys::kAll, AttentionByProduct::kColumnSums> launch{
      "dense attention with column sums, sm90a", stream, heads};
  launch.Run(arguments, inputs.query.dim(3));
}

template <typename T>
void RunSparse(Stream& stream, const AttentionInputs& inputs, const ColumnSelection& selection,
               const SparseAttentionEpilogue& epilogue, const TensorView& output,
               const TensorView& log_sum_exp, const ConstTensorView& order) {
  const int64_t heads = HeadsOf(inputs);
  AttentionArguments<T> arguments =
      SparseArgumentsOf<T>(inputs, selection, epilogue, output, log_sum_exp);
  const int32_t tile_rows =
      TileRowsFor(stream, selection.counts.NumElements(), RowsOfGroups(inputs, selection));
  arguments.schedule = ScheduleOf(inputs, selection, tile_rows, order);
  const AttentionLaunch<AttentionKeys::kListed, AttentionByProduct::kNone> launch{
      "column-sparse attention, sm90a", stream, heads};
  launch.Run(arguments, inputs.query.dim(3));
}

}  // namespace

void DenseAttention(Stream& stream, const AttentionInputs& inputs, const TensorView& output,
                    const TensorView& log_sum_exp) {
  if (inputs.query.dtype() == DType::kBF16) {
    RunDense<BFloat16>(stream, inputs, output, log_sum_exp);
  } else {
    RunDense<Float16>(stream, inputs, output, log_sum_exp);
  }
}

void DenseAttentionColumnSums(Stream& stream, const AttentionInputs& inputs,
                              const ConstTensorView& previous_log_sum_exp, int64_t group_size,
                              const TensorView& output, const TensorView& log_sum_exp,
                              const TensorView& column_sums) {
  if (inputs.query.dtype() == DType::kBF16) {
    RunColumnSums<BFloat16>(stream, inputs, previous_log_sum_exp, group_size, output, log_sum_exp,
                            column_sums);
  } else {
    RunColumnSums<Float16>(stream, inputs, previous_log_sum_exp, group_size, output, log_sum_exp,
                           column_sums);
  }
}

void ColumnSparseAttention(Stream& stream, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, const TensorView& output,
                           const TensorView& log_sum_exp, const ConstTensorView& order) {
  if (inputs.query.dtype() == DType::kBF16) {
    RunSparse<BFloat16>(stream, inputs, selection, epilogue, output, log_sum_exp, order);
  } else {
    RunSparse<Float16>(stream, inputs, selection, epilogue, output, log_sum_exp, order);
  }
}

}  // namespace tamias::cuda::sm90a
