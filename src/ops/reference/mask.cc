// Mask operations, one bit at a time.
#include "ops/mask.h"

#include "base/check.h"
#include "tamias/random.h"

namespace tamias::reference {
namespace {

bool TestBit(const ConstTensorView& mask, int64_t row, int64_t column) {
  return ((mask.data<uint8_t>()[row * mask.dim(1) + column / 8] >> (column % 8)) & 1) != 0;
}

}  // namespace

void RandomMask(Context&, double probability, uint64_t seed, TensorView mask, int64_t n) {
  for (int64_t r = 0; r < mask.dim(0); ++r) {
    for (int64_t j = 0; j < n; ++j) {
      const uint32_t random = CounterRandom(seed, static_cast<uint64_t>(r * n + j));
      if (random < probability * 0x1p32) SetMaskRange(mask, r, j, j + 1);
    }
  }
}

void MaskToIndices(Context&, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts) {
  const int64_t capacity = indices.dim(1);
  for (int64_t r = 0; r < mask.dim(0); ++r) {
    int64_t count = 0;
    for (int64_t j = 0; j < n; ++j) {
      if (!TestBit(mask, r, j)) continue;
      if (count < capacity) {
        indices.data<int32_t>()[r * indices.stride(0) + count] = static_cast<int32_t>(j);
      }
      ++count;
    }
    if (count > capacity) {
      Fail(ErrorCode::kInvalidArgument,
           "mask to indices: indices: row {} has {} columns, found a capacity of {}", r, count,
           capacity);
    }
    counts.data<int32_t>()[r] = static_cast<int32_t>(count);
  }
}

void CountMask(Context&, ConstTensorView mask, TensorView counts) {
  for (int64_t r = 0; r < mask.dim(0); ++r) {
    int32_t count = 0;
    for (int64_t j = 0; j < mask.dim(1) * 8; ++j) count += TestBit(mask, r, j) ? 1 : 0;
    counts.data<int32_t>()[r] = count;
  }
}

void OrMask(Context&, ConstTensorView source, int64_t limit, TensorView mask) {
  for (int64_t r = 0; r < mask.dim(0); ++r) {
    int64_t count = 0;
    for (int64_t j = 0; j < mask.dim(1) * 8 && count < limit; ++j) {
      if (!TestBit(source, r % source.dim(0), j)) continue;
      SetMaskRange(mask, r, j, j + 1);
      ++count;
    }
  }
}

}  // namespace tamias::reference
