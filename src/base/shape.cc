// Dimensions, their product (checked for overflow), row-major strides and text ("[2, 3]").
#include "tamias/shape.h"

#include <algorithm>

#include "base/check.h"

namespace tamias {

Shape::Shape(std::span<const int64_t> dims) {
  for (const int64_t dim : dims) Append(dim);
}

void Shape::Append(int64_t dim) {
  TAMIAS_CHECK(rank_ < kMaxRank);
  dims_[static_cast<size_t>(rank_++)] = dim;
}

int64_t Shape::NumElements() const {
  int64_t count = 1;
  for (const int64_t dim : dims()) {
    TAMIAS_CHECK(dim >= 0);
    if (__builtin_mul_overflow(count, dim, &count)) {
      Fail(ErrorCode::kOutOfMemory, "a tensor of shape {} is too large", ToString());
    }
  }
  return count;
}

Shape Shape::ContiguousStrides() const {
  Shape strides = *this;
  int64_t stride = 1;
  for (int axis = rank_ - 1; axis >= 0; --axis) {
    strides[axis] = stride;
    stride *= std::max<int64_t>((*this)[axis], 1);
  }
  return strides;
}

std::string Shape::ToString() const { return fmt::format("[{}]", fmt::join(dims(), ", ")); }

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(dims(), other.dims());
}

}  // namespace tamias
