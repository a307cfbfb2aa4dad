// The attention kernel for compute capability 8.0 and later (mma.sync, ldmatrix, cp.async): dense,
// dense with column sums, and column-sparse, from the same parts:
//   schedule   attention_schedule.h     which rows a block works on
//   main loop  attention_keys.cuh       K and V on their way to shared memory
//              attention_rows.cuh       scores, softmax, output of a warp's 16 rows
//              attention_column_sums.cuh
//   epilogue   attention_epilogue.cuh   normalise, combine, write
// A block has kWarps warps of 16 query rows each; all use the same keys, kKeys per step.
#pragma once

#include <cstdint>
#include <type_traits>

#include "ops/cuda/attention_column_sums.cuh"
#include "ops/cuda/attention_epilogue.cuh"
#include "ops/cuda/attention_keys.cuh"
#include "ops/cuda/attention_rows.cuh"
#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/shared_memory.cuh"

namespace tamias::cuda {

enum class AttentionKeys { kAll, kListed };
enum class AttentionByProduct { kNone, kColumnSums };

template <typename Traits, AttentionByProduct kByProduct>
constexpr int SharedBytes() {
  return Traits::kStages * Traits::kStageBytes +
         (kByProduct == AttentionByProduct::kColumnSums ? Traits::kColumnSumBytes : 0);
}

// Rows [row, row + kRows) of the tile, over all steps of keys.
template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
__device__ void AttendTile(const AttentionArguments<typename Traits::T>& arguments,
                           const QueryTile& tile, int32_t row, ColumnSums<Traits>& column_sums) {
  constexpr bool kListed = kKeyChoice == AttentionKeys::kListed;
  constexpr bool kSums = kByProduct == AttentionByProduct::kColumnSums;
  unsigned char* shared = SharedMemory();
  const int32_t heads = arguments.heads;
  const int32_t count = kListed ? arguments.counts[tile.item] : arguments.keys;
  const int32_t steps = (count + Traits::kKeys - 1) / Traits::kKeys;
  KeyPipeline<Traits, kListed> pipeline(
      HeadOf(arguments.key, arguments.key_strides, tile.head, heads), arguments.key_strides.row,
      HeadOf(arguments.value, arguments.value_strides, tile.head, heads),
      arguments.value_strides.row,
      kListed ? arguments.indices + tile.item * arguments.capacity : nullptr, count, shared);
  for (int stage = 0; stage < Traits::kStages - 1; ++stage) pipeline.LoadNext(stage);

  // A warp without rows loads keys and keeps the barriers, nothing else.
  const int32_t warp_row = row + static_cast<int32_t>(threadIdx.x) / 32 * 16;
  const bool has_rows = warp_row < tile.end_row;
  AttentionRows<Traits> rows;
  rows.Begin(HeadOf(arguments.query, arguments.query_strides, tile.head, heads),
             arguments.query_strides.row, warp_row, tile.end_row);
  for (int32_t step = 0; step < steps; ++step) {
    CpAsyncWait<Traits::kStages - 2>();
    __syncthreads();  // this step has landed for all; everyone is done with the step before
    pipeline.LoadNext((step + Traits::kStages - 1) % Traits::kStages);
    if (kSums && step > 0) column_sums.Write(step - 1);
    if (!has_rows) continue;
    const unsigned char* keys = shared + step % Traits::kStages * Traits::kStageBytes;
    rows.Score(keys, count - step * Traits::kKeys);
    if constexpr (kSums) column_sums.Take(rows, arguments.scale_log2, step);
    rows.Softmax(arguments.scale_log2);
    rows.Accumulate(keys + Traits::kTileBytes);
  }
  if (kSums && steps > 0) {
    __syncthreads();
    column_sums.Write(steps - 1);
  }
  if (has_rows) WriteRows<Traits>(rows, arguments, tile.head, warp_row, tile.end_row);
}

template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocksPerMultiprocessor)
    AttentionKernel(const __grid_constant__ AttentionArguments<typename Traits::T> arguments) {
  constexpr bool kSums = kByProduct == AttentionByProduct::kColumnSums;
  const QueryTile tile = arguments.schedule.At(blockIdx.x);
  ColumnSums<Traits> column_sums(
      kSums ? arguments.column_sums + tile.item * arguments.keys : nullptr, arguments.keys,
      SharedMemory() + Traits::kStages * Traits::kStageBytes);
  for (int32_t row = tile.first_row; row < tile.end_row; row += Traits::kRows) {
    if constexpr (kSums) {
      if (row > tile.first_row) __syncthreads();  // the last rows are done with shared memory
      const int32_t warps = min(Traits::kWarps, (tile.end_row - row + 15) / 16);
      column_sums.Begin(arguments.previous_log_sum_exp + tile.head * arguments.queries,
                        row + static_cast<int32_t>(threadIdx.x) / 32 * 16, tile.end_row, warps,
                        row > tile.first_row);
    }
    AttendTile<Traits, kKeyChoice, kByProduct>(arguments, tile, row, column_sums);
  }
}

}  // namespace tamias::cuda
