// Element access for the references: any strides, any floating dtype, in double precision.
#pragma once

#include "tamias/tensor.h"

namespace tamias::reference {

inline int64_t Offset(const ConstTensorView& view, const Shape& index) {
  int64_t offset = 0;
  for (int axis = 0; axis < view.rank(); ++axis) offset += index[axis] * view.stride(axis);
  return offset;
}

// The element at `index` of an f32, f16, bf16 or fp8_e4m3 tensor, times the scale of its row.
inline double Get(const ConstTensorView& view, const Shape& index) {
  const int64_t offset = Offset(view, index);
  switch (view.dtype()) {
    case DType::kF16:
      return ToFloat(view.data<Float16>()[offset]);
    case DType::kBF16:
      return ToFloat(view.data<BFloat16>()[offset]);
    case DType::kF8E4M3:
      return double{ToFloat(view.data<Float8E4M3>()[offset])} *
             (view.row_scales() == nullptr ? 1 : view.row_scales()[index[0]]);
    default:
      return view.data<float>()[offset];
  }
}

inline void Set(const TensorView& view, const Shape& index, double value) {
  view.data<float>()[Offset(view, index)] = static_cast<float>(value);
}

// body(index) for every index of a tensor of this shape, in row-major order.
template <typename Body>
void ForEachIndex(const Shape& shape, const Body& body) {
  const int64_t count = shape.NumElements();
  Shape index = shape;
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = i;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      index[axis] = rest % shape[axis];
      rest /= shape[axis];
    }
    body(static_cast<const Shape&>(index));
  }
}

// The shape without its last axis.
inline Shape LeadingAxes(const Shape& shape) {
  return Shape(shape.dims().first(static_cast<size_t>(shape.rank() - 1)));
}

// `index` with one more axis at the end.
inline Shape With(Shape index, int64_t last) {
  index.Append(last);
  return index;
}

}  // namespace tamias::reference
