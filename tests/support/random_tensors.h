// Reproducible random tensors: a stream of them for property tests, and values that depend on a
// seed and an index alone.
#pragma once

#include <cstdint>
#include <random>

#include "tamias/random.h"
#include "tamias/tensor.h"

namespace tamias {

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

}  // namespace tamias
