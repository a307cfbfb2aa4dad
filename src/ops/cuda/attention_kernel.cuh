// The attention kernel for compute capability 8.0 and later (mma.sync, ldmatrix, cp.async): dense,
// dense with column sums, and column-sparse, each also causal, from the same parts:
//   schedule   attention_schedule.h     which rows a block works on
//   main loop  attention_keys.cuh       K and V on their way to shared memory
//              attention_rows.cuh       scores, softmax, output of a warp's 16 rows
//              attention_column_sums.cuh
//              attention_causal.cuh     how many keys a row sees
//   epilogue   attention_epilogue.cuh   normalise, combine, write
// A block has kWarps warps of 16 query rows each; all use the same keys, kKeys per step.
#pragma once

#include <cstdint>
#include <type_traits>

#include "ops/cuda/attention_causal.cuh"
#include "ops/cuda/attention_column_sums.cuh"
#include "ops/cuda/attention_epilogue.cuh"
#include "ops/cuda/attention_keys.cuh"
#include "ops/cuda/attention_rows.cuh"
#include "ops/cuda/attention_traits.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/shared_memory.cuh"

namespace tamias::cuda {

template <typename Traits, AttentionByProduct kByProduct>
constexpr int SharedBytes() {
  return Traits::kColumnSumOffset +
         (kByProduct == AttentionByProduct::kColumnSums ? Traits::kColumnSumBytes : 0);
}

// Rows [row, row + kRows) of the tile, over all steps of keys.
template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct,
          AttentionMask kMask>
__device__ void AttendTile(const AttentionArguments<typename Traits::T>& arguments,
                           const BlockWork<typename Traits::T>& work, int32_t row) {
  constexpr bool kSums = kByProduct == AttentionByProduct::kColumnSums;
  constexpr bool kCausal = kMask == AttentionMask::kCausal;
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
  LaneSeenKeys seen;
  if constexpr (kCausal) {
    seen.Find<kKeyChoice == AttentionKeys::kListed>(arguments, work, warp_row);
    if (kSums && row == work.tile.first_row) column_sums.Clear(work.keys, arguments.keys);
  }
  int32_t step = 0;
  for (; step * Traits::kKeys < work.keys; ++step) {
    CpAsyncWait<Traits::kStages - 2>();
    __syncthreads();  // this step has landed for all; everyone is done with the step before
    pipeline.Load(step + Traits::kStages - 1);
    if (kSums && step > 0) column_sums.Write(step - 1, row);
    if (!has_rows) continue;
    // Column sums are of all warps at every step.
    if (kCausal && !kSums && step * Traits::kKeys >= seen.of_warp) continue;
    const uint32_t keys = step % Traits::kStages * Traits::kStageBytes;
    const int32_t first = step * Traits::kKeys;
    rows.Score(shared, keys, work.keys - first);
    if constexpr (kCausal) {
      const int32_t of_step[2] = {seen.of_row[0] - first, seen.of_row[1] - first};
      if (of_step[0] < Traits::kKeys) rows.MaskUnseen(of_step);
    }
    if constexpr (kSums) column_sums.Take(rows, arguments.scale_log2, step);
    rows.template Softmax<kCausal>(arguments.scale_log2);
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
template <AttentionKeys kKeyChoice, AttentionByProduct kByProduct, AttentionMask kMask, typename T>
__device__ void FindWork(const AttentionArguments<T>& arguments, BlockWork<T>& work) {
  const TileSchedule& schedule = arguments.schedule;
  const QueryTile tile = schedule.At(
      kMask == AttentionMask::kCausal ? schedule.LastRowsFirst(blockIdx.x) : int64_t{blockIdx.x});
  work.tile = tile;
  work.keys = KeysOf<kKeyChoice>(arguments, tile);
  work.key = HeadOf(arguments.key, arguments.key_strides, tile.head, arguments.heads);
  work.value = HeadOf(arguments.value, arguments.value_strides, tile.head, arguments.heads);
  work.indices = IndicesOf<kKeyChoice>(arguments, tile);
  work.column_sums = kByProduct == AttentionByProduct::kColumnSums
                         ? arguments.column_sums + int64_t{tile.item} * arguments.keys
                         : nullptr;
}

// By one thread: the keys that some row of [row, row + kRows) of the tile sees are the block's.
template <typename Traits, AttentionKeys kKeyChoice>
__device__ void FindSeenKeys(const AttentionArguments<typename Traits::T>& arguments, int32_t row,
                             BlockWork<typename Traits::T>& work) {
  constexpr bool kListed = kKeyChoice == AttentionKeys::kListed;
  const int32_t count = kListed ? arguments.counts[work.tile.item] : arguments.keys;
  const int32_t last_row = min(row + Traits::kRows, work.tile.end_row) - 1;
  work.keys = SeenKeys<kListed>(arguments, work.indices, count, last_row);
}

template <typename Traits, AttentionKeys kKeyChoice, AttentionByProduct kByProduct,
          AttentionMask kMask>
__global__ void __launch_bounds__(Traits::kThreads, Traits::kBlocksPerMultiprocessor)
    AttentionKernel(const __grid_constant__ AttentionArguments<typename Traits::T> arguments) {
  CheckLaunchBounds<Traits::kThreads>();
  __shared__ BlockWork<typename Traits::T> work;
  if (threadIdx.x == 0) FindWork<kKeyChoice, kByProduct, kMask>(arguments, work);
  __syncthreads();
  for (int32_t row = work.tile.first_row; row < work.tile.end_row; row += Traits::kRows) {
    if (row > work.tile.first_row) __syncthreads();  // the rows before are done with shared memory
    if constexpr (kMask == AttentionMask::kCausal) {
      if (threadIdx.x == 0) FindSeenKeys<Traits, kKeyChoice>(arguments, row, work);
      __syncthreads();
    }
    AttendTile<Traits, kKeyChoice, kByProduct, kMask>(arguments, work, row);
  }
}

}  // namespace tamias::cuda
