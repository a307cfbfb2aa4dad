// What the tests of dense and column-sparse attention share: random operands as models hand them
// over, and their comparison.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "base/tensor.h"
#include "ops/attention.h"

namespace tamias {

// fp32 sums of up to a few hundred terms of size 1 in another order than the reference's: about
// sqrt(300) * 6e-8, with room; relative to the largest value of the output.
constexpr float kTolerance = 1e-5f;

inline Tensor RandomTensor(Shape shape, std::mt19937& random, float deviation = 1) {
  Tensor tensor(shape, DType::kF32);
  std::normal_distribution<float> normal(0, deviation);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) tensor.data<float>()[i] = normal(random);
  return tensor;
}

inline void ExpectNear(const Tensor& found, const Tensor& expected, float tolerance) {
  ASSERT_EQ(found.shape(), expected.shape());
  float largest = 0;
  for (int64_t i = 0; i < expected.NumElements(); ++i) {
    const float e = std::abs(expected.data<float>()[i]);
    if (std::isfinite(e)) largest = std::max(largest, e);
  }
  for (int64_t i = 0; i < expected.NumElements(); ++i) {
    const float f = found.data<float>()[i];
    const float e = expected.data<float>()[i];
    if (f == e) continue;  // both -inf
    ASSERT_LE(std::abs(f - e), tolerance * largest) << "at " << i << ": " << f << " for " << e;
  }
}

// query, key and value of [B, N, H, D] storage seen as [B, H, N, D]: strided, as models hand them
// over; scale 1 / sqrt(D).
inline AttentionInputs StridedInputs(const Tensor& query, const Tensor& key, const Tensor& value) {
  return {.query = query.view().Permute({0, 2, 1, 3}),
          .key = key.view().Permute({0, 2, 1, 3}),
          .value = value.view().Permute({0, 2, 1, 3}),
          .scale = 1.0f / std::sqrt(static_cast<float>(query.dim(3)))};
}

}  // namespace tamias
