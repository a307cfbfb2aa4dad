// What the attention kernels ask of their operands, their arguments from tensor views, and the
// choice of the instantiation by type, head dimension and rows.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string_view>

#include "base/check.h"
#include "base/cuda/stream.h"
#include "ops/attention.h"
#include "ops/cuda/attention_kernel.cuh"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"

namespace tamias::cuda {

constexpr int kManyWarps = 12;  // 192 query rows: the published group
constexpr int kFewWarps = 4;    // 64: small groups, and calls that would leave GPUs idle

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

// What all three operations have in common.
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

// A launch whose instantiation is chosen below: kernel choices and the arguments by type.
template <AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
struct AttentionLaunch {
  const char* name;
  Stream& stream;
  int64_t heads;  // B * H
  bool causal;

  template <typename Traits>
  void Run(const AttentionArguments<typename Traits::T>& arguments) const {
    const int64_t blocks = arguments.schedule.Blocks(heads);
    if (blocks > std::numeric_limits<int32_t>::max()) {
      Fail(ErrorCode::kUnsupported, "{}: {} blocks are too many for one launch", name, blocks);
    }
    Launch(causal ? &AttentionKernel<Traits, kKeyChoice, kByProduct, AttentionMask::kCausal>
                  : &AttentionKernel<Traits, kKeyChoice, kByProduct, AttentionMask::kNone>,
           LaunchShape{.name = name,
                       .grid = static_cast<unsigned>(blocks),
                       .block = Traits::kThreads,
                       .shared_bytes = size_t{SharedBytes<Traits, kByProduct>()}},
           stream, arguments);
  }

  template <typename T>
  void Run(const AttentionArguments<T>& arguments, int64_t head_dim) const {
    const bool few = arguments.schedule.tile_rows <= 16 * kFewWarps;
    if (head_dim == 64) {
      few ? Run<AttentionTraits<T, 64, kFewWarps>>(arguments)
          : Run<AttentionTraits<T, 64, kManyWarps>>(arguments);
    } else {
      few ? Run<AttentionTraits<T, 128, kFewWarps>>(arguments)
          : Run<AttentionTraits<T, 128, kManyWarps>>(arguments);
    }
  }
};

// Rows of a block for groups of this size.
inline int32_t TileRowsFor(int64_t group_size) {
  return 16 * (group_size <= 16 * kFewWarps ? kFewWarps : kManyWarps);
}

}  // namespace tamias::cuda
