// Sizes of the scratch memory of GPU operations, from shapes alone, so that a plan needs neither a
// GPU nor a build with CUDA. The operations' own ...ScratchBytes are made of them.
#pragma once

#include "tamias/tensor.h"

namespace tamias::cuda {

// What one piece of scratch takes: pieces begin at multiples of 256 bytes.
size_t ScratchBytes(const Shape& shape, DType dtype);

// So many elements, or as many more as make whole vectors of eight.
int64_t WholeVectors(int64_t elements);

// Of biased attention, whose scores are stored in whole vectors of keys.
// Query rows whose scores lie in memory at a time, a multiple of 128 or all of them.
int64_t ScoredRows(int64_t heads, int64_t queries, int64_t keys);
// What `rows` rows of scores and weights take.
size_t ScoreBytes(int64_t heads, int64_t rows, int64_t keys);

// Of group norm: the pixels of a chunk whose sums are taken at once.
int64_t PixelsPerChunk(int64_t channels);

}  // namespace tamias::cuda
