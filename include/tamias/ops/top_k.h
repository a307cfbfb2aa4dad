// Selection of the largest scores of each row, as bits of a mask: exactly, and approximately from a
// quantile of a random sample (what Chipmunk, arXiv 2506.03275, uses between full steps).
// Shapes: scores [R, N] f32, last stride 1; mask [R, ceil(N / 8)] u8, contiguous: bit j % 8 of byte
// j / 8 is column j (see tamias/ops/mask.h). Selected bits are set, the others are left as they
// are.
//
// On a GPU: the same bits; the work is enqueued.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Sets the bits of the min(k, N) largest scores of each row. Ties go to the lower index; NaN counts
// as minus infinity. k >= 0.
void TopKMask(Context& context, ConstTensorView scores, int64_t k, TensorView mask);

// Sets the bits of all scores >= the estimated (1 - k/N) quantile of the row: the quantile of
// sample_size scores drawn with replacement by CounterRandom(seed, row * sample_size + i). About k
// bits, relative spread sqrt((1 - k/N) / (k/N) / sample_size). Rows with N <= sample_size are
// selected exactly, as by TopKMask. NaN counts as minus infinity.
void ApproximateTopKMask(Context& context, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask);

// The rank (1: the largest) of the sample's element that serves as the threshold, for k < n.
constexpr int64_t ApproximateTopKRank(int64_t k, int64_t n, int64_t sample_size) {
  const int64_t rank = (sample_size * k + n / 2) / n;
  return rank < 1 ? 1 : rank;
}

}  // namespace tamias
