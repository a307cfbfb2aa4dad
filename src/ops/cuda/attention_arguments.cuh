// What the attention kernels of all architectures ask of their operands, and their arguments from
// tensor views.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "base/check.h"
#include "base/cuda/stream.h"
#include "ops/attention.h"
#include "ops/column_sparse_attention.h"
#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/kernel_family.h"

namespace tamias::cuda {

// [B, H, N, D] whose rows are loaded in pieces of 16 bytes, at distances that fit 32 bits.
inline void CheckRows(std::string_view operation, std::string_view argument,
                      const ConstTensorView& view) {
  CheckVectorRows(operation, argument, view);
  if (view.dim(2) > 1 && std::abs(view.stride(2)) > std::numeric_limits<int32_t>::max()) {
    Fail(ErrorCode::kUnsupported, "{}: {}: expected rows at most 2^31 elements apart, found {}",
         operation, argument, view.stride(2));
  }
}

// What the kernels ask of operands that fit each other.
inline void CheckAttentionKernel(std::string_view operation, const AttentionInputs& inputs,
                                 const TensorView& output) {
  const ConstTensorView& query = inputs.query;
  CheckHalves(operation, "query", query);
  const int64_t rows = query.dim(2), head_dim = query.dim(3);
  if (head_dim != 64 && head_dim != 128) {
    Fail(ErrorCode::kUnsupported, "{}: query: expected head dimension 64 or 128, found {}",
         operation, head_dim);
  }
  CheckRows(operation, "query", query);
  CheckRows(operation, "key", inputs.key);
  CheckRows(operation, "value", inputs.value);
  CheckRows(operation, "output", output);
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max() - 1024;
  if (rows > kMost || inputs.key.dim(2) > kMost) {
    Fail(ErrorCode::kUnsupported, "{}: expected at most {} queries and keys, found {} and {}",
         operation, kMost, rows, inputs.key.dim(2));
  }
  if (!(inputs.scale > 0) || !std::isfinite(inputs.scale)) {
    Fail(ErrorCode::kInvalidArgument, "{}: scale: expected a positive number, found {}", operation,
         inputs.scale);
  }
}

inline RowStrides StridesOf(const ConstTensorView& view) {
  return {view.stride(0), view.stride(1), static_cast<int32_t>(view.stride(2))};
}

// What all three operations have in common; the schedule is the kernel's affair.
template <typename T>
AttentionArguments<T> ArgumentsOf(const AttentionInputs& inputs, const TensorView& output,
                                  const TensorView& log_sum_exp) {
  constexpr double kLog2E = 1.4426950408889634;
  return {.query = inputs.query.data<T>(),
          .key = inputs.key.data<T>(),
          .value = inputs.value.data<T>(),
          .output = output.data<T>(),
          .query_strides = StridesOf(inputs.query),
          .key_strides = StridesOf(inputs.key),
          .value_strides = StridesOf(inputs.value),
          .output_strides = StridesOf(output),
          .heads = static_cast<int32_t>(inputs.query.dim(1)),
          .queries = static_cast<int32_t>(inputs.query.dim(2)),
          .keys = static_cast<int32_t>(inputs.key.dim(2)),
          .scale_log2 = static_cast<float>(double{inputs.scale} * kLog2E),
          .schedule = {},
          .log_sum_exp = log_sum_exp.empty() ? nullptr : log_sum_exp.data<float>()};
}

template <typename T>
AttentionArguments<T> ColumnSumArgumentsOf(const AttentionInputs& inputs,
                                           const ConstTensorView& previous_log_sum_exp,
                                           const TensorView& output, const TensorView& log_sum_exp,
                                           const TensorView& column_sums) {
  AttentionArguments<T> arguments = ArgumentsOf<T>(inputs, output, log_sum_exp);
  arguments.previous_log_sum_exp = previous_log_sum_exp.data<float>();
  arguments.column_sums = column_sums.data<float>();
  return arguments;
}

template <typename T>
AttentionArguments<T> SparseArgumentsOf(const AttentionInputs& inputs,
                                        const ColumnSelection& selection,
                                        const SparseAttentionEpilogue& epilogue,
                                        const TensorView& output, const TensorView& log_sum_exp) {
  AttentionArguments<T> arguments = ArgumentsOf<T>(inputs, output, log_sum_exp);
  arguments.indices = selection.indices.empty() ? nullptr : selection.indices.data<int32_t>();
  arguments.counts = selection.counts.data<int32_t>();
  arguments.capacity = selection.indices.dim(3);
  arguments.output_scale = epilogue.scale;
  if (!epilogue.base.empty()) {
    arguments.base = epilogue.base.data<T>();
    arguments.base_strides = StridesOf(epilogue.base);
  }
  if (!epilogue.base_log_sum_exp.empty()) {
    arguments.base_log_sum_exp = epilogue.base_log_sum_exp.data<float>();
  }
  return arguments;
}

// Of the largest group.
inline int64_t RowsOfGroups(const AttentionInputs& inputs, const ColumnSelection& selection) {
  return std::min(selection.group_size, inputs.query.dim(2) - selection.dense_rows);
}

inline TileSchedule ScheduleOf(const AttentionInputs& inputs, const ColumnSelection& selection,
                               int32_t tile_rows, const ConstTensorView& order) {
  const ConstTensorView& query = inputs.query;
  const auto rows = static_cast<int32_t>(query.dim(2) - selection.dense_rows);
  const auto group_size = static_cast<int32_t>(RowsOfGroups(inputs, selection));
  return ScheduleOfTiles(rows, group_size, tile_rows,
                         order.empty() ? nullptr : order.data<int32_t>())
      .WithDenseRows(selection.dense_rows, query.dim(0) * query.dim(1));
}

// Whether a call with groups of so many rows is one for the kernel of attention_sm90a.cu: it
// multiplies 64 rows at once, two or three times, and serves no causal calls.
inline bool TakesWarpgroups(const Stream& stream, const AttentionInputs& inputs, int64_t rows) {
  constexpr int64_t kFewRows = 64;
  return KernelFamilyOf(stream) == KernelFamily::kSm90a && !inputs.causal && rows > kFewRows;
}

}  // namespace tamias::cuda
