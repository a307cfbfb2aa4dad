// How far tensors are from those that were expected.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>

#include "tamias/tensor.h"

namespace tamias {

// |actual - expected| / |expected|; NaN of two zeros.
inline double RelativeL2(std::span<const float> actual, std::span<const float> expected) {
  EXPECT_EQ(actual.size(), expected.size());
  if (actual.size() != expected.size()) return INFINITY;
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double e = expected[i];
    const double d = actual[i] - e;
    difference += d * d;
    norm += e * e;
  }
  return std::sqrt(difference / norm);
}

inline std::span<const float> ValuesOf(ConstTensorView tensor) {
  EXPECT_TRUE(tensor.IsContiguous());
  return {tensor.data<float>(), static_cast<size_t>(tensor.NumElements())};
}

// Both contiguous f32 of one shape.
inline double RelativeL2(ConstTensorView actual, ConstTensorView expected) {
  EXPECT_EQ(actual.shape(), expected.shape());
  return RelativeL2(ValuesOf(actual), ValuesOf(expected));
}

// The largest |a - b| / (1 + |b|) over two contiguous f32 tensors; NaN in one of them counts as
// infinite.
inline float LargestError(ConstTensorView actual, ConstTensorView expected) {
  EXPECT_EQ(actual.shape(), expected.shape());
  float largest = 0;
  for (int64_t i = 0; i < expected.NumElements(); ++i) {
    const float a = actual.data<float>()[i], b = expected.data<float>()[i];
    const float error = std::abs(a - b) / (1 + std::abs(b));
    largest = std::isnan(a) && std::isnan(b) ? largest
              : std::isnan(error)            ? INFINITY
                                             : std::max(largest, error);
  }
  return largest;
}

// The largest finite |value|, of any strides.
inline float LargestMagnitude(ConstTensorView tensor) {
  const Tensor copy = Tensor::CopyOf(tensor);
  float largest = 0;
  for (const float value : ValuesOf(copy)) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  return largest;
}

// Expects |found - expected| <= bound(expected) of every value; the same infinities agree.
template <typename Bound>
void ExpectWithin(const Tensor& found, const Tensor& expected, const Bound& bound) {
  ASSERT_EQ(found.shape(), expected.shape());
  for (int64_t i = 0; i < expected.NumElements(); ++i) {
    const float f = found.data<float>()[i];
    const float e = expected.data<float>()[i];
    if (f == e) continue;  // both -inf
    ASSERT_LE(std::abs(f - e), bound(e)) << "at " << i << ": " << f << " for " << e;
  }
}

// Relative to the largest value that is expected.
inline void ExpectNear(const Tensor& found, const Tensor& expected, float tolerance) {
  const float bound = tolerance * LargestMagnitude(expected);
  ExpectWithin(found, expected, [&](float) { return bound; });
}

// Relative to 1 + |expected|.
inline void ExpectFloats(const Tensor& found, const Tensor& expected, float tolerance) {
  ExpectWithin(found, expected, [&](float e) { return tolerance * (1 + std::abs(e)); });
}

inline bool SameBytes(const Tensor& a, const Tensor& b) {
  return a.bytes() == b.bytes() && std::memcmp(a.view().raw(), b.view().raw(), a.bytes()) == 0;
}

}  // namespace tamias
