// Two random views of one shape and one dtype, of any strides, for the tests of Copy: slices of
// larger tensors with the axes in random orders.
#pragma once

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "tests/support/random_tensors.h"

namespace tamias {

struct CopySide {
  Tensor storage;
  Shape axes, begin;  // of the storage: its axes in the view's order, where the view begins
  Shape shape;        // of the view

  TensorView ViewOf(TensorView whole) const {
    TensorView view = whole.Permute(axes);
    for (int axis = 0; axis < shape.rank(); ++axis) {
      view = view.Slice(axis, begin[axis], begin[axis] + shape[axis]);
    }
    return view;
  }
};

inline CopySide MakeCopySide(Random& random, const Shape& shape, DType dtype) {
  const bool strided = random.Coin();
  Shape begin = shape, larger = shape, stored = shape, axes = shape;
  std::vector<int> order(static_cast<size_t>(shape.rank()));
  std::iota(order.begin(), order.end(), 0);
  if (random.Coin()) std::shuffle(order.begin(), order.end(), random.generator());
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const int64_t extra = strided ? random.Integer(0, 2) : 0;
    larger[axis] += extra;
    begin[axis] = random.Integer(0, extra);
  }
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const int at = order[static_cast<size_t>(axis)];
    axes[axis] = at;
    stored[at] = larger[axis];
  }
  CopySide side{Tensor(stored, dtype), axes, begin, shape};
  auto* bytes = static_cast<unsigned char*>(side.storage.view().raw());
  for (size_t i = 0; i < side.storage.bytes(); ++i) {
    bytes[i] = static_cast<unsigned char>(random.Integer(0, 255));
  }
  return side;
}

constexpr DType kCopyTypes[] = {DType::kF32, DType::kF16, DType::kBF16,
                                DType::kI32, DType::kI64, DType::kU8};

inline Shape RandomCopyShape(Random& random) {
  Shape shape;
  const int64_t rank = random.Integer(0, Shape::kMaxRank);
  for (int64_t axis = 0; axis < rank; ++axis) {
    shape.Append(random.Integer(random.Integer(0, 9) == 0 ? 0 : 1, 9));
  }
  return shape;
}

}  // namespace tamias
