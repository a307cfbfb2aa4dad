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
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/shared_memory.cuh"

namespace tamias::cuda {

enum class AttentionKeys { kAll, kListed };
enum class AttentionByProduct { kNone, kColumnSums };

template <typename Traits, AttentionByProduct kByProduct>
constexpr int SharedBytes() {
  return Traits::kColumnSumOffset +
         (kByProduct == AttentionByProduct::kColumnSums ? Traits::kColumnSumBytes : 0);
}

// Rows [row, row + kRows) of the tile, over all steps of keys.
template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
__device__ void AttendTile(const AttentionArguments<typename Traits::T>& arguments,
                           const BlockWork<typename Traits::T>& work, int32_t row) {
  constexpr bool kSums = kByProduct == AttentionByProduct::kColumnSums;
  unsigned char* shared = SharedMemory();
  KeyPipeline<Traits, kKeyChoice == AttentionKeys::kListed> pipeline(arguments, work, shared);
  for (int32_t step = 0; step < Traits::kStages - 1; ++step) pipeline.Load(step);

  // A warp without rows loads keys and keeps the barriers, nothing else.
  const int32_t warp_row = row + static_cast<int32_t>(threadIdx.x) / 32 * 16;
  const bool has_rows = warp_row < work.tile.end_row;
  AttentionRows<Traits> rows;
  rows.Begin(HeadOf(arguments.query, arguments.query_strides, work.tile.head, arguments.heads),
             arguments.query_strides.row, warp_row, work.tile.end_row, shared);
  ColumnSums<Traits> column_sums(work, shared + Traits::kColumnSumOffset);
  if constexpr (kSums) {
    column_sums.Begin(arguments.previous_log_sum_exp + int64_t{work.tile.head} * arguments.queries,
                      warp_row);
  }
  int32_t step = 0;
  for (; step * Traits::kKeys < work.keys; ++step) {
    CpAsyncWait<Traits::kStages - 2>();
    __syncthreads();  // this step has landed for all; everyone is done with the step before
    pipeline.Load(step + Traits::kStages - 1);
    if (kSums && step > 0) column_sums.Write(step - 1, row);
    if (!has_rows) continue;
    const uint32_t keys = step % Traits::kStages * Traits::kStageBytes;
    rows.Score(shared, keys, work.keys - step * Traits::kKeys);
    if constexpr (kSums) column_sums.Take(rows, arguments.scale_log2, step);
    rows.Softmax(arguments.scale_log2);
    rows.Accumulate(shared, keys + Traits::kTileBytes);
  }
  if (kSums && step > 0) {
    __syncthreads();
    column_sums.Write(step - 1, row);
  }
  if (has_rows) {
    WriteRows<Traits>(rows, arguments, work.tile.head, warp_row, work.tile.end_row);
  }
}

// By one thread, before all others look.
template <AttentionKeys kKeyChoice, AttentionByProduct kByProduct, typename T>
__device__ void FindWork(const AttentionArguments<T>& arguments, BlockWork<T>& work) {
  constexpr bool kListed = kKeyChoice == AttentionKeys::kListed;
  const QueryTile tile = arguments.schedule.At(blockIdx.x);
  work.tile = tile;
  work.keys = kListed ? arguments.counts[tile.item] : arguments.keys;
  work.key = HeadOf(arguments.key, arguments.key_strides, tile.head, arguments.heads);
  work.value = HeadOf(arguments.value, arguments.value_strides, tile.head, arguments.heads);
  work.indices = kListed ? arguments.indices + tile.item * arguments.capacity : nullptr;
  work.column_sums = kByProduct == AttentionByProduct::kColumnSums
                         ? arguments.column_sums + int64_t{tile.item} * arguments.keys
                         : nullptr;
}

template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocksPerMultiprocessor)
    AttentionKernel(const __grid_constant__ AttentionArguments<typename Traits::T> arguments) {
  CheckLaunchBounds<Traits::kThreads>();
  __shared__ BlockWork<typename Traits::T> work;
  if (threadIdx.x == 0) FindWork<kKeyChoice, kByProduct>(arguments, work);
  __syncthreads();
  for (int32_t row = work.tile.first_row; row < work.tile.end_row; row += Traits::kRows) {
    if (row > work.tile.first_row) __syncthreads();  // the rows before are done with shared memory
    AttendTile<Traits, kKeyChoice, kByProduct>(arguments, work, row);
  }
}

}  // namespace tamias::cuda
