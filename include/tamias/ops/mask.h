// Bit-packed masks of chosen columns: [R, ceil(N / 8)] u8, contiguous; bit j % 8 of byte j / 8 of a
// row is column j. The unused high bits of a row's last byte are 0, and every operation keeps them
// so.
//
// On a GPU: the same bits and lists; the work is enqueued.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Bytes of one row of a mask over n columns.
constexpr int64_t MaskBytes(int64_t n) { return (n + 7) / 8; }

// Sets each bit (r, j), j < n, for which CounterRandom(seed, r * n + j) < probability * 2^32; other
// bits are left.
void RandomMask(Context& context, double probability, uint64_t seed, TensorView mask, int64_t n);

// indices[r, :counts[r]] = the columns of the set bits of row r, ascending; the rest of indices is
// left. indices [R, capacity] i32 (last stride 1), counts [R] i32. Throws kInvalidArgument, naming
// row, count and capacity, when a row has more bits than the capacity; a GPU lists the first ones.
void MaskToIndices(Context& context, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts);

// counts[r] = the number of set bits of row r. counts [R] i32.
void CountMask(Context& context, ConstTensorView mask, TensorView counts);

// mask[r] |= the first `limit` set bits of source[r % S]: a few rows that all share, or one for
// each. mask [R, m] and source [S, m] u8, S >= 1 unless R is 0; limit >= 0.
void OrMask(Context& context, ConstTensorView source, int64_t limit, TensorView mask);

// Sets the bits of columns [begin, end) of one row. In memory of the host.
void SetMaskRange(TensorView mask, int64_t row, int64_t begin, int64_t end);

}  // namespace tamias
