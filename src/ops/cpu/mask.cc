// Mask operations: rows in parallel; compaction by compress-store, 64 columns at a time.
#include "ops/mask.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/parallel.h"
#include "tamias/random.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/mask.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Bits [8 * byte, 8 * byte + 64) of a row; those past its end are 0.
HWY_INLINE uint64_t LoadWord(const uint8_t* row, int64_t bytes, int64_t byte) {
  uint64_t word = 0;
  if (byte + 8 <= bytes) {
    std::memcpy(&word, row + byte, 8);
  } else {
    std::memcpy(&word, row + byte, static_cast<size_t>(bytes - byte));
  }
  return word;
}

int64_t CountRow(const uint8_t* row, int64_t bytes) {
  uint64_t count = 0;
  for (int64_t byte = 0; byte < bytes; byte += 8) {
    count += hwy::PopCount(LoadWord(row, bytes, byte));
  }
  return static_cast<int64_t>(count);
}

// Writes the columns of the set bits, ascending, and returns their number; past the capacity it
// only counts.
int64_t CompactRow(const uint8_t* row, int64_t bytes, int64_t capacity, int32_t* indices) {
  const hn::ScalableTag<int32_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t count = 0;
  for (int64_t byte = 0; byte < bytes; byte += 8) {
    const uint64_t word = LoadWord(row, bytes, byte);
    const int64_t word_count = static_cast<int64_t>(hwy::PopCount(word));
    if (word_count > 0 && count + 64 <= capacity) {  // room for whole vectors
      int64_t written = count;
      for (int64_t i = 0; i < 64; i += lanes) {
        const uint64_t rest = word >> i;  // LoadMaskBits may read 8 bytes
        const auto chosen = hn::LoadMaskBits(d, reinterpret_cast<const uint8_t*>(&rest));
        const auto columns = hn::Iota(d, static_cast<int32_t>(8 * byte + i));
        written += static_cast<int64_t>(hn::CompressStore(columns, chosen, d, indices + written));
      }
    } else if (count + word_count <= capacity) {
      uint64_t rest = word;
      for (int64_t i = 0; i < word_count; ++i, rest &= rest - 1) {
        const uint64_t bit = hwy::Num0BitsBelowLS1Bit_Nonzero64(rest);
        indices[count + i] = static_cast<int32_t>(8 * byte + static_cast<int64_t>(bit));
      }
    }
    count += word_count;
  }
  return count;
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias::cpu {
namespace {

HWY_EXPORT(CountRow);
HWY_EXPORT(CompactRow);

constexpr int64_t kBytesPerTask = 4096;  // a few microseconds of work

int64_t RowsPerTask(const ConstTensorView& mask) {
  return std::max<int64_t>(1, kBytesPerTask / std::max<int64_t>(1, mask.dim(1)));
}

}  // namespace

void RandomMask(Context& context, double probability, uint64_t seed, TensorView mask, int64_t n) {
  const uint64_t bound = static_cast<uint64_t>(std::ceil(probability * 0x1p32));
  if (bound == 0) return;
  ParallelForRanges(context, mask.dim(0), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      uint8_t* row = mask.data<uint8_t>() + r * mask.dim(1);
      for (int64_t j = 0; j < n; j += 8) {
        unsigned bits = 0;
        for (int64_t i = 0; i < std::min<int64_t>(8, n - j); ++i) {
          const uint64_t random = CounterRandom(seed, static_cast<uint64_t>(r * n + j + i));
          bits |= (random < bound ? 1u : 0u) << i;
        }
        row[j / 8] = static_cast<uint8_t>(row[j / 8] | bits);
      }
    }
  });
}

void MaskToIndices(Context& context, ConstTensorView mask, int64_t, TensorView indices,
                   TensorView counts) {
  const int64_t bytes = mask.dim(1), capacity = indices.dim(1);
  ParallelForRanges(context, mask.dim(0), RowsPerTask(mask), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t count =
          HWY_DYNAMIC_DISPATCH(CompactRow)(mask.data<uint8_t>() + r * bytes, bytes, capacity,
                                           indices.data<int32_t>() + r * indices.stride(0));
      if (count > capacity) {
        Fail(ErrorCode::kInvalidArgument,
             "mask to indices: indices: row {} has {} columns, found a capacity of {}", r, count,
             capacity);
      }
      counts.data<int32_t>()[r] = static_cast<int32_t>(count);
    }
  });
}

void CountMask(Context& context, ConstTensorView mask, TensorView counts) {
  const int64_t bytes = mask.dim(1);
  ParallelForRanges(context, mask.dim(0), RowsPerTask(mask), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      counts.data<int32_t>()[r] = static_cast<int32_t>(
          HWY_DYNAMIC_DISPATCH(CountRow)(mask.data<uint8_t>() + r * bytes, bytes));
    }
  });
}

void OrMask(Context& context, ConstTensorView source, int64_t limit, TensorView mask) {
  const int64_t bytes = mask.dim(1);
  ParallelForRanges(context, mask.dim(0), RowsPerTask(mask), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const uint8_t* from = source.data<uint8_t>() + r % source.dim(0) * bytes;
      uint8_t* to = mask.data<uint8_t>() + r * bytes;
      int64_t left = limit;
      for (int64_t i = 0; i < bytes && left > 0; ++i) {
        unsigned bits = from[i];
        const int count = std::popcount(bits);
        for (int64_t excess = count - left; excess > 0; --excess) bits &= ~std::bit_floor(bits);
        left -= count;
        to[i] = static_cast<uint8_t>(to[i] | bits);
      }
    }
  });
}

}  // namespace tamias::cpu
#endif  // HWY_ONCE
