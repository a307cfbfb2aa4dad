// Attention of one group of query rows of one head over a list of key columns: the unit of work
// that dense and column-sparse attention hand to a thread. Shapes: R rows of the group, D head
// dimension, K keys.
#pragma once

#include <cstdint>

#include "tamias/dtype.h"

namespace tamias::cpu {

// Rows of a group that are worked on together; larger groups are done in chunks of this many.
// 192 rows: the queries and outputs (2 * 192 * D floats, 192 KiB at D = 128) stay in the L2 cache,
// and every key and value row that is fetched serves 192 rows.
inline constexpr int64_t kAttentionChunkRows = 192;

inline constexpr int64_t kAllKeys = int64_t{1} << 62;

// T is what queries, keys, values and outputs consist of: float or BFloat16. Strides are in
// elements; the last axis of every matrix is contiguous.
template <typename T>
struct AttentionGroup {
  const T* query = nullptr;  // [R, D]
  int64_t query_stride = 0;
  int64_t num_rows = 0;
  int64_t head_dim = 0;

  const T* key = nullptr;    // rows chosen by indices
  const T* value = nullptr;  // the same rows
  int64_t key_stride = 0;
  int64_t value_stride = 0;
  const int32_t* indices = nullptr;  // [num_keys], or null: rows 0 to num_keys - 1
  int64_t num_keys = 0;
  // Row i sees those of the keys that are rows 0 to visible_keys + i - 1 of `key`; the indices
  // ascend unless that is kAllKeys.
  int64_t visible_keys = kAllKeys;

  float scale = 0;  // of the scores

  // output[i] = base[i] + output_scale * A_S[i]; without base: output_scale * A_S[i]; with
  // base_log_sum_exp: the merge of (A_S, its log-sum-exp) and (base, base_log_sum_exp).
  T* output = nullptr;  // [R, D]
  int64_t output_stride = 0;
  float output_scale = 1;
  const T* base = nullptr;  // [R, D], or null
  int64_t base_stride = 0;
  const float* base_log_sum_exp = nullptr;  // [R], or null

  float* log_sum_exp = nullptr;  // [R], or null: not wanted

  // column_sums[j] = sum_i exp(score_ij - previous_log_sum_exp[i]) over the rows i that see key j,
  // j < num_keys; or both null.
  float* column_sums = nullptr;
  const float* previous_log_sum_exp = nullptr;

  // The group that this thread will probably work on next, whose first rows are then fetched while
  // this one is finished; or null.
  const AttentionGroup* next = nullptr;
};

// Scratch of one thread, in floats, for tensors of a type.
int64_t AttentionScratchFloats(int64_t head_dim, DType dtype);

// scratch: as many floats, 64-byte aligned. bf16 is multiplied as such where MultipliesBFloat16(),
// with weights of the softmax rounded to it, else in fp32; sums are fp32.
void AttendGroup(const AttentionGroup<float>& group, float* scratch);
void AttendGroup(const AttentionGroup<BFloat16>& group, float* scratch);

}  // namespace tamias::cpu
