// Two passes over each row while it is in the cache: its largest magnitude, then its codes.
#include "io/quantise.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "base/parallel.h"

namespace tamias {
namespace {

constexpr uint32_t kInfinity = 0x7F800000u;
// Rows of smaller numbers become zeros: scales and their products stay normal numbers.
constexpr int kLeastExponent = -100;

// The bits of the largest magnitude, which order as the numbers do; NaN is above infinity.
template <typename T>
uint32_t LargestMagnitude(const T* row, int64_t count) {
  uint32_t largest = 0;
  for (int64_t k = 0; k < count; ++k) {
    largest = std::max(largest, std::bit_cast<uint32_t>(ToFloat(row[k])) & 0x7FFFFFFFu);
  }
  return largest;
}

// Of the scale for a row of this largest magnitude, 1.75 2^8 being the largest code.
int ScaleExponent(uint32_t magnitude) {
  const int exponent = static_cast<int>(magnitude >> 23) - 127 - 8;
  const bool is_beyond = (magnitude & 0x7FFFFFu) > 0x600000u;
  return std::max(exponent + (is_beyond ? 1 : 0), kLeastExponent);
}

// Whether all elements are finite.
template <typename T>
bool QuantiseRows(const Context& context, ConstTensorView weight, QuantisedMatrix& result) {
  const int64_t width = weight.dim(1);
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / std::max<int64_t>(1, width));
  std::atomic<bool> is_finite{true};
  ParallelForRanges(context, weight.dim(0), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      const T* row = weight.host_data<T>() + n * width;
      const uint32_t magnitude = LargestMagnitude(row, width);
      if (magnitude >= kInfinity) {
        is_finite = false;
        return;
      }
      const int exponent = ScaleExponent(magnitude);
      result.scales.host_data<float>()[n] = std::ldexp(1.0f, exponent);
      const float inverse = std::ldexp(1.0f, -exponent);
      Float8E4M3* codes = result.codes.host_data<Float8E4M3>() + n * width;
      for (int64_t k = 0; k < width; ++k) codes[k] = ToFloat8E4M3(ToFloat(row[k]) * inverse);
    }
  });
  return is_finite;
}

}  // namespace

std::optional<QuantisedMatrix> Quantise(const Context& context, ConstTensorView weight) {
  QuantisedMatrix result{Tensor(weight.shape(), DType::kF8E4M3),
                         Tensor({weight.dim(0)}, DType::kF32)};
  const auto quantise = weight.dtype() == DType::kF32   ? &QuantiseRows<float>
                        : weight.dtype() == DType::kF16 ? &QuantiseRows<Float16>
                                                        : &QuantiseRows<BFloat16>;
  if (!quantise(context, weight, result)) return std::nullopt;
  return result;
}

}  // namespace tamias
