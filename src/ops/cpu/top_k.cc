// Top-k selection of a row: the k-th largest score, then one pass that compares and packs bits.
// The k-th largest is found as in Floyd and Rivest ("Expected time bounds for selection", 1975):
// two elements of a random sample bracket it with high probability, one vectorised pass counts what
// lies above the bracket and keeps what lies inside, and only that small rest is partitioned.
#include "ops/top_k.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/parallel.h"
#include "tamias/random.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/top_k.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "ops/cpu/tail-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;

// Scores i, i + 1, ..., those past n and NaN as minus infinity.
HWY_INLINE FloatVector LoadScores(const float* scores, int64_t i, int64_t n) {
  const FloatTag d;
  const FloatVector lowest = hn::Set(d, -std::numeric_limits<float>::infinity());
  FloatVector value;
  if (i + static_cast<int64_t>(hn::Lanes(d)) <= n) {
    value = hn::LoadU(d, scores + i);
  } else {
    const auto inside = hn::FirstN(d, static_cast<size_t>(n - i));
    value = hn::IfThenElse(inside, tail::LoadFirst(d, scores + i, n - i), lowest);
  }
  return hn::IfThenElse(hn::IsNaN(value), lowest, value);
}

// Appends the scores within [lower, upper] to `kept` (room for n and one vector) and returns their
// number; *above receives the number of scores > upper.
int64_t KeepBetween(const float* scores, int64_t n, float lower, float upper, float* kept,
                    int64_t* above) {
  const FloatTag d;
  const FloatVector low = hn::Set(d, lower), high = hn::Set(d, upper);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t count = 0;
  *above = 0;
  for (int64_t i = 0; i < n; i += lanes) {
    const FloatVector value = LoadScores(scores, i, n);
    auto inside = hn::And(hn::Ge(value, low), hn::Le(value, high));
    if (i + lanes > n) inside = hn::And(inside, hn::FirstN(d, static_cast<size_t>(n - i)));
    *above += static_cast<int64_t>(hn::CountTrue(d, hn::Gt(value, high)));
    count += static_cast<int64_t>(hn::CompressStore(value, inside, d, kept + count));
  }
  return count;
}

// The 64 comparison results of scores [begin, begin + 64) against the threshold, as bits.
HWY_INLINE void CompareWord(const float* scores, int64_t begin, int64_t n, float threshold,
                            uint64_t* greater, uint64_t* equal) {
  const FloatTag d;
  const FloatVector limit = hn::Set(d, threshold);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  *greater = *equal = 0;
  for (int64_t i = 0; i < 64 && begin + i < n; i += lanes) {
    const FloatVector value = LoadScores(scores, begin + i, n);
    uint64_t bits = 0;
    hn::StoreMaskBits(d, hn::Gt(value, limit), reinterpret_cast<uint8_t*>(&bits));
    *greater |= bits << i;
    bits = 0;
    hn::StoreMaskBits(d, hn::Eq(value, limit), reinterpret_cast<uint8_t*>(&bits));
    *equal |= bits << i;
  }
  if (n - begin < 64) {
    const uint64_t inside = (uint64_t{1} << (n - begin)) - 1;
    *greater &= inside;
    *equal &= inside;
  }
}

// Sets the bits of the scores > threshold, and of the first `ties` of those equal to it.
void SetBitsFrom(const float* scores, int64_t n, float threshold, int64_t ties, uint8_t* mask) {
  for (int64_t begin = 0; begin < n; begin += 64) {
    uint64_t greater, equal;
    CompareWord(scores, begin, n, threshold, &greater, &equal);
    while (equal != 0 && ties > 0) {
      const uint64_t lowest = equal & (~equal + 1);
      greater |= lowest;
      equal ^= lowest;
      --ties;
    }
    for (int64_t byte = begin / 8; greater != 0; ++byte, greater >>= 8) {
      mask[byte] = static_cast<uint8_t>(mask[byte] | (greater & 0xFF));
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias::cpu {
namespace {

HWY_EXPORT(KeepBetween);
HWY_EXPORT(SetBitsFrom);

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kPadding = 64;  // a compress-store writes a whole vector

// The score drawn by one random number: NaN counts as minus infinity.
float Draw(const float* scores, int64_t n, uint32_t random) {
  const float value = scores[(uint64_t{random} * static_cast<uint64_t>(n)) >> 32];
  return std::isnan(value) ? -kInfinity : value;
}

// The element of this rank (1: the largest); reorders the values.
float ElementOfRank(float* values, int64_t n, int64_t rank) {
  std::nth_element(values, values + rank - 1, values + n, std::greater<>());
  return values[rank - 1];
}

struct Bracket {
  float lower = -kInfinity, upper = kInfinity;
};

// Two values of a random sample between which the k-th largest score lies in all but about one case
// in a thousand: three standard deviations of the rank of a sample of n^(2/3) either way.
Bracket BracketOf(const float* scores, int64_t n, int64_t k, float* scratch) {
  const int64_t size =
      static_cast<int64_t>(std::cbrt(static_cast<double>(n) * static_cast<double>(n)));
  for (int64_t i = 0; i < size; ++i) {
    scratch[i] = Draw(scores, n, CounterRandom(static_cast<uint64_t>(k), static_cast<uint64_t>(i)));
  }
  const double fraction = static_cast<double>(k) / static_cast<double>(n);
  const double rank = fraction * static_cast<double>(size);
  const double spread = 3 * std::sqrt(rank * (1 - fraction)) + 1;
  const int64_t first = static_cast<int64_t>(rank - spread);
  const int64_t last = static_cast<int64_t>(rank + spread) + 1;
  Bracket bracket;
  int64_t done = 0;  // elements of higher rank need not be looked at again
  if (first >= 1) {
    bracket.upper = ElementOfRank(scratch, size, first);
    done = first;
  }
  if (last <= size) bracket.lower = ElementOfRank(scratch + done, size - done, last - done);
  return bracket;
}

// 0 < k < n.
void SelectRow(const float* scores, int64_t n, int64_t k, float* scratch, uint8_t* mask) {
  constexpr int64_t kSmallRow = 128;  // partitioned whole
  const Bracket bracket = n > kSmallRow ? BracketOf(scores, n, k, scratch) : Bracket();
  const auto keep = HWY_DYNAMIC_DISPATCH(KeepBetween);
  int64_t above = 0;
  int64_t kept = keep(scores, n, bracket.lower, bracket.upper, scratch, &above);
  if (k <= above || k > above + kept) {
    kept = keep(scores, n, -kInfinity, kInfinity, scratch, &above);
  }
  const int64_t rank = k - above;
  const float threshold = ElementOfRank(scratch, kept, rank);
  const int64_t ties = std::count(scratch, scratch + rank, threshold);
  HWY_DYNAMIC_DISPATCH(SetBitsFrom)(scores, n, threshold, ties, mask);
}

void SetWholeRow(int64_t n, uint8_t* mask) {
  for (int64_t j = 0; j + 8 <= n; j += 8) mask[j / 8] = 0xFF;
  if (n % 8 != 0) mask[n / 8] = static_cast<uint8_t>(mask[n / 8] | ((1u << (n % 8)) - 1));
}

// body(scores of the row, scratch for `scratch_size` scores and one vector, mask of the row, row)
template <typename Body>
void ForEachRow(Context& context, const ConstTensorView& scores, const TensorView& mask,
                int64_t scratch_size, const Body& body) {
  const int64_t stride = scratch_size + kPadding;
  Workspace::Scope scope(context.workspace());
  float* scratch =
      context.workspace().Allocate({context.threads() * stride}, DType::kF32).data<float>();
  if (context.IsPlanning()) return;
  ParallelForRanges(context, scores.dim(0), 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; ++r) {
      body(scores.data<float>() + r * scores.stride(0), scratch + thread * stride,
           mask.data<uint8_t>() + r * mask.dim(1), r);
    }
  });
}

}  // namespace

void TopKMask(Context& context, ConstTensorView scores, int64_t k, TensorView mask) {
  const int64_t n = scores.dim(1);
  if (k == 0) return;
  ForEachRow(context, scores, mask, n,
             [&](const float* row, float* scratch, uint8_t* bits, int64_t) {
               if (k >= n) {
                 SetWholeRow(n, bits);
               } else {
                 SelectRow(row, n, k, scratch, bits);
               }
             });
}

void ApproximateTopKMask(Context& context, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask) {
  const int64_t n = scores.dim(1);
  if (n <= sample_size || k == 0 || k >= n) return cpu::TopKMask(context, scores, k, mask);
  const int64_t rank = ApproximateTopKRank(k, n, sample_size);
  ForEachRow(context, scores, mask, sample_size,
             [&](const float* row, float* scratch, uint8_t* bits, int64_t r) {
               for (int64_t i = 0; i < sample_size; ++i) {
                 const uint64_t index = static_cast<uint64_t>(r * sample_size + i);
                 scratch[i] = Draw(row, n, CounterRandom(seed, index));
               }
               const float threshold = ElementOfRank(scratch, sample_size, rank);
               HWY_DYNAMIC_DISPATCH(SetBitsFrom)(row, n, threshold, n, bits);
             });
}

}  // namespace tamias::cpu
#endif  // HWY_ONCE
