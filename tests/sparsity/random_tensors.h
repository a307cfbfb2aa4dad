// Reproducible inputs for the tests of the sparsity layer.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/random.h"
#include "base/tensor.h"

namespace tamias {

// Uniform in [-1, 1).
inline float RandomValue(uint64_t seed, int64_t index) {
  return static_cast<float>(CounterRandom(seed, static_cast<uint64_t>(index))) * 0x1p-31f - 1.0f;
}

inline Tensor RandomTensor(Shape shape, uint64_t seed, float scale = 1) {
  Tensor tensor(shape, DType::kF32);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    tensor.data<float>()[i] = scale * RandomValue(seed, i);
  }
  return tensor;
}

// source + noise of the given size.
inline Tensor Moved(const Tensor& source, uint64_t seed, float size) {
  Tensor moved = Tensor::CopyOf(source.view());
  for (int64_t i = 0; i < moved.NumElements(); ++i) {
    moved.data<float>()[i] += size * RandomValue(seed, i);
  }
  return moved;
}

inline double RelativeL2(const Tensor& actual, const Tensor& expected) {
  double error = 0;
  double norm = 0;
  for (int64_t i = 0; i < expected.NumElements(); ++i) {
    const double e = expected.data<float>()[i];
    const double d = actual.data<float>()[i] - e;
    error += d * d;
    norm += e * e;
  }
  return std::sqrt(error / norm);
}

}  // namespace tamias
