// Random operands in memory of random strides, and the comparison of an operation with its
// reference.
#pragma once

#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace tamias {

// A tensor seen through a view that may skip memory between rows; the last stride is 1.
struct Operand {
  Tensor storage;
  TensorView view;
};

inline Operand RandomOperand(Random& random, const Shape& shape, float scale = 1.0f,
                             DType dtype = DType::kF32) {
  Shape larger = shape;
  Shape begin = shape;
  const bool strided = random.Coin();
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const int64_t extra = strided ? random.Integer(0, 3) : 0;
    larger[axis] += extra;
    begin[axis] = random.Integer(0, extra);
  }
  Operand operand{random.Normal(larger, scale, dtype), {}};
  operand.view = operand.storage.view();
  for (int axis = 0; axis < shape.rank(); ++axis) {
    operand.view = operand.view.Slice(axis, begin[axis], begin[axis] + shape[axis]);
  }
  return operand;
}

inline Operand CopyOf(const Operand& source) {
  Operand copy{Tensor::CopyOf(source.storage.view()), {}};
  const ptrdiff_t offset = static_cast<const std::byte*>(source.view.raw()) -
                           static_cast<const std::byte*>(source.storage.view().raw());
  copy.view = TensorView(static_cast<std::byte*>(copy.storage.view().raw()) + offset,
                         source.view.dtype(), source.view.shape(), source.view.strides());
  return copy;
}

// Over the whole storage: an operation that writes outside its view is caught as well.
inline float LargestError(const Operand& actual, const Operand& expected) {
  return LargestError(actual.storage.view(), expected.storage.view());
}

inline DType RandomWeightType(Random& random) {
  constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
  return kTypes[random.Integer(0, 2)];
}

}  // namespace tamias
