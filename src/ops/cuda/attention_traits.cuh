// What the parts of the attention kernels agree on: sizes (traits) and arguments.
#pragma once

#include <cstdint>

#include "base/cuda/runtime.cuh"
#include "ops/cuda/attention_schedule.h"

namespace tamias::cuda {

enum class AttentionKeys { kAll, kListed };
enum class AttentionByProduct { kNone, kColumnSums };
enum class AttentionMask { kNone, kCausal };

// Each warp owns 16 query rows (one mma row block) and all head dimensions of them: scores, softmax
// and output never leave its registers. 12 warps are 192 rows, the published group of queries, so K
// and V are gathered once per group and every scheduler of a multiprocessor has three warps; each
// thread may then use 168 registers. With D = 128 it holds 64 of output and 24 of query (the other
// 8 lie in shared memory); the scores of 64 keys would be 32 more, which spills 150 bytes and more;
// those of 32 keys are 16. 32 rows per warp would halve the reads of shared memory, but need over
// 230 registers: 6 warps for 192 rows, which four schedulers cannot share evenly. 4 warps have
// registers for 64 keys.
template <typename T_, int kHeadDim_, int kWarps_>
struct AttentionTraits {
  using T = T_;                               // BFloat16 or Float16
  static constexpr int kHeadDim = kHeadDim_;  // D
  static constexpr int kWarps = kWarps_;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kWarps;           // query rows of a block at once
  static constexpr int kKeys = kWarps > 4 ? 32 : 64;  // keys of one step of the main loop
  // Steps of K and V in shared memory, one in use, the others on their way: 32 to 64 KiB, within
  // the 99 KiB that a block has on consumer GPUs.
  static constexpr int kStages = kKeys == 32 ? 4 : kHeadDim == 64 ? 3 : 2;

  static constexpr int kRowChunks = kHeadDim / 8;  // pieces of 16 bytes of a row of K or V
  static constexpr int kRowBytes = 2 * kHeadDim;
  static constexpr int kTileBytes = kKeys * kRowBytes;  // of K or of V in one step
  static constexpr int kStageBytes = 2 * kTileBytes;
  static constexpr int kScoreBlocks = kKeys / 8;      // mma column blocks of the scores
  static constexpr int kOutputBlocks = kHeadDim / 8;  // and of the output
  static constexpr int kQuerySteps = kHeadDim / 16;   // mma steps along D
  // The last steps of the query that a thread keeps in its own 16 bytes of shared memory each, and
  // reads once per step of keys; docs/kernels-cuda.md has the registers of the whole.
  static constexpr int kSharedQuerySteps = kWarps > 4 && kHeadDim == 128 ? 2 : 0;
  static constexpr int kRegisterQuerySteps = kQuerySteps - kSharedQuerySteps;

  // Shared memory: steps of K and V, query, lines of column sums.
  static constexpr int kQueryOffset = kStages * kStageBytes;
  static constexpr int kColumnSumOffset = kQueryOffset + kSharedQuerySteps * kThreads * 16;
  static constexpr int kColumnSumBytes = 2 * kWarps * kKeys * 4;

  static constexpr int kLoadRows = kThreads / kRowChunks;  // rows that all threads copy at once
  static constexpr int kLoads = (kKeys + kLoadRows - 1) / kLoadRows;
  static_assert(kHeadDim == 64 || kHeadDim == 128);
  static_assert(kThreads % kRowChunks == 0 && kLoadRows % 8 == 0);  // a thread keeps its swizzle

  // Two blocks of 4 warps share a multiprocessor where shared memory allows.
  static constexpr int kBlocksPerMultiprocessor = kWarps <= 4 ? 2 : 1;
};

// In elements.
struct RowStrides {
  int64_t batch, head;
  int32_t row;
};

template <typename T>
struct AttentionArguments {
  const T* query;  // [B, H, Nq, D]
  const T* key;    // [B, H, Nk, D]
  const T* value;  // [B, H, Nk, D]
  T* output;       // [B, H, Nq, D]
  RowStrides query_strides, key_strides, value_strides, output_strides;
  int32_t heads;  // H
  int32_t queries, keys;
  float scale_log2;  // scale * log2(e): scores in units of log2(e), so that softmax needs 2^x
  TileSchedule schedule;

  // Sparse only; rows before the groups see every key, have no base, and log_sum_exp is not of
  // them.
  const int32_t* indices = nullptr;  // [B, H, G, capacity]
  const int32_t* counts = nullptr;   // [B, H, G]
  int64_t capacity = 0;

  float* log_sum_exp = nullptr;                 // [B, H, rows in groups] or null
  const float* previous_log_sum_exp = nullptr;  // [B, H, Nq], column sums only
  float* column_sums = nullptr;                 // [B, H, G, Nk]

  const T* base = nullptr;  // [B, H, rows in groups, D] or null
  RowStrides base_strides = {};
  const float* base_log_sum_exp = nullptr;  // [B, H, rows in groups]: merge, or null: add
  float output_scale = 1;
};

// What a block works on. It lies in shared memory, not in registers, of which the main loop has
// none to spare.
template <typename T>
struct BlockWork {
  QueryTile tile;
  int32_t keys;            // of the head, or in the list of the group; causal: those that count
  const T* key;            // [Nk, D] of the head
  const T* value;          // [Nk, D]
  const int32_t* indices;  // of the group, or null: every key
  float* column_sums;      // [Nk] of the group, or null
};

// Of a tile's head, or in the list of its group.
template <AttentionKeys kKeyChoice, typename T>
__device__ __forceinline__ int32_t KeysOf(const AttentionArguments<T>& arguments,
                                          const QueryTile& tile) {
  const bool has_list = kKeyChoice == AttentionKeys::kListed && tile.item >= 0;
  return has_list ? arguments.counts[tile.item] : arguments.keys;
}

// The list of a tile's group, or null: every key.
template <AttentionKeys kKeyChoice, typename T>
__device__ __forceinline__ const int32_t* IndicesOf(const AttentionArguments<T>& arguments,
                                                    const QueryTile& tile) {
  const bool has_list = kKeyChoice == AttentionKeys::kListed && tile.item >= 0;
  return has_list ? arguments.indices + tile.item * arguments.capacity : nullptr;
}

// The first element of a head.
template <typename T>
__device__ __forceinline__ T* HeadOf(T* data, const RowStrides& strides, int32_t head,
                                     int32_t heads) {
  return data + head / heads * strides.batch + head % heads * strides.head;
}

}  // namespace tamias::cuda
