// Random operands for the property tests of the operations, and their comparison.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/tensor.h"

namespace tamias::testing {

class Random {
 public:
  explicit Random(uint64_t seed) : generator_(seed) {}

  // A whole number in [low, high].
  int64_t Integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator_);
  }
  bool Coin() { return Integer(0, 1) == 1; }
  float Normal() { return normal_(generator_); }

  Tensor Normal(Shape shape, float scale = 1.0f, DType dtype = DType::kF32) {
    Tensor tensor(shape, dtype);
    for (int64_t i = 0; i < tensor.NumElements(); ++i) Set(tensor, i, scale * Normal());
    return tensor;
  }
  std::mt19937_64& generator() { return generator_; }

 private:
  static void Set(Tensor& tensor, int64_t i, float value) {
    if (tensor.dtype() == DType::kF32) {
      tensor.data<float>()[i] = value;
    } else if (tensor.dtype() == DType::kBF16) {
      tensor.data<BFloat16>()[i] = ToBFloat16(value);
    } else {
      tensor.data<Float16>()[i] = ToFloat16(value);
    }
  }

  std::mt19937_64 generator_;
  std::normal_distribution<float> normal_;
};

// The largest |a - b| / (1 + |b|) over two contiguous f32 tensors; NaN in one of them counts as
// infinite.
inline float LargestError(const ConstTensorView& actual, const ConstTensorView& expected) {
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

}  // namespace tamias::testing
