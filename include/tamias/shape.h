// Dimensions (or strides) of a tensor: up to six signed 64-bit numbers, no allocation.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

namespace tamias {

class Shape {
 public:
  static constexpr int kMaxRank = 6;  // [batch, channels, frames, height, width] and one to spare

  constexpr Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  int64_t& operator[](int axis) { return dims_[static_cast<size_t>(axis)]; }
  void Append(int64_t dim);

  // The number of elements; throws kOutOfMemory when it does not fit 63 bits.
  int64_t NumElements() const;
  // Row-major strides, in elements.
  Shape ContiguousStrides() const;
  std::string ToString() const;  // "[2, 24, 4096, 128]"

  bool operator==(const Shape& other) const;
  std::span<const int64_t> dims() const { return {dims_.data(), static_cast<size_t>(rank_)}; }

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace tamias
