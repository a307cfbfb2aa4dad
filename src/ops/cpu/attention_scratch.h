// What a thread keeps while it works on a group of query rows (attention_group.cc), part by part,
// and the sizes that this follows from. The same for every instruction set.
#pragma once

#include <cstdint>

#include "ops/cpu/attention_group.h"
#include "tamias/dtype.h"

namespace tamias::cpu {

// Keys per block: their scores for one panel (10 KiB) stay in the L1 cache. A multiple of the 13 or
// 6 rows of a register tile. Between 65 and 208 the speed hardly depends on it. Twice as many where
// pairs are multiplied, so that the second product has as many steps.
inline constexpr int64_t kKeyBlock = 78;
inline constexpr int64_t kKeyBlockOfPairs = 156;
inline constexpr int64_t kKeyBlockOfTiles = 160;  // a multiple of two tiles of 16 keys
inline constexpr int64_t kMaxPanelLanes = 32;     // two vectors of AVX-512

// The parts of a thread's scratch memory, each 64-byte aligned.
struct AttentionScratch {
  AttentionScratch(int64_t head_dim, DType dtype, float* memory = nullptr) : start(memory) {
    const bool is_narrow = dtype == DType::kBF16;
    const int64_t key_block = is_narrow ? kKeyBlockOfTiles : kKeyBlock;  // the largest
    query = Take(kAttentionChunkRows * head_dim);
    output = Take(kAttentionChunkRows * head_dim);
    scores = Take(key_block * kMaxPanelLanes);
    column_parts = Take(key_block * kMaxPanelLanes / 2);
    maximum = Take(kAttentionChunkRows);
    sum = Take(kAttentionChunkRows);
    reference = Take(kAttentionChunkRows);
    unused_row = Take(head_dim);
    // Tiles: the rows of K and V, and 32 of V on their way. Pairs of kKeyBlockOfPairs rows of V and
    // kKeyBlock widened rows of K and V take less.
    if (is_narrow) prepared = Take((kKeyBlockOfTiles + 16) * head_dim);
  }
  float* Take(int64_t floats) {
    float* part = start + used;
    used += (floats + 15) / 16 * 16;
    return part;
  }

  float* start;
  int64_t used = 0;
  float* query;               // Q^T panels [D][lanes], one after the other
  float* output;              // O^T panels
  float* scores;              // S^T, then P^T, of one block and panel
  float* column_parts;        // [key][lane]: column sums of a block before their reduction
  float* maximum;             // [row] running maximum, an integer
  float* sum;                 // [row] sum of 2^(score - maximum)
  float* reference;           // [row] previous log-sum-exp, in units of log2(e)
  float* unused_row;          // where the lanes past the last row write their output
  float* prepared = nullptr;  // of bf16: the rows of a block, as the products want them
};

}  // namespace tamias::cpu
