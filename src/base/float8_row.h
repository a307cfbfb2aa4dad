// A row of numbers as 8-bit floats (e4m3) with a scale: the least power of two with which the
// largest element is within the codes' range of 448. A product with it is exact, so that bf16 holds
// every scaled code, and numbers that were e4m3 before stay as they were. As floats, codes gain
// nothing from a scale in between.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <optional>

#include "tamias/dtype.h"

namespace tamias {

// 2^exponent, -126 <= exponent <= 127.
constexpr float PowerOfTwo(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

// The bits of a number's magnitude, which order as the numbers do: infinity above all others, NaN
// above infinity.
constexpr uint32_t MagnitudeBits(float value) {
  return std::bit_cast<uint32_t>(value) & 0x7FFFFFFFu;
}
constexpr bool IsFiniteMagnitude(uint32_t magnitude) { return magnitude < 0x7F800000u; }

// Of the scale of a row whose largest magnitude has these bits, 1.75 2^8 being the largest code.
// Rows of numbers below 2^-100 become zeros: scales and their products stay normal numbers.
constexpr int Float8ScaleExponent(uint32_t largest_magnitude) {
  constexpr int kLeast = -100;
  const int exponent = static_cast<int>(largest_magnitude >> 23) - 127 - 8;
  const bool is_beyond = (largest_magnitude & 0x7FFFFFu) > 0x600000u;
  return std::max(exponent + (is_beyond ? 1 : 0), kLeast);
}

// The codes of a row, rounded to nearest even, and its scale; nothing, and no codes, where an
// element is not finite. Two passes while the row is in the cache.
template <typename T>
std::optional<float> QuantiseRow(const T* row, int64_t count, Float8E4M3* codes) {
  uint32_t largest = 0;
  for (int64_t k = 0; k < count; ++k) largest = std::max(largest, MagnitudeBits(ToFloat(row[k])));
  if (!IsFiniteMagnitude(largest)) return std::nullopt;
  const int exponent = Float8ScaleExponent(largest);
  const float inverse = PowerOfTwo(-exponent);
  for (int64_t k = 0; k < count; ++k) codes[k] = ToFloat8E4M3(ToFloat(row[k]) * inverse);
  return PowerOfTwo(exponent);
}

}  // namespace tamias
