// Element-wise arithmetic, element by element in double precision.
#include "ops/elementwise.h"

#include <cmath>

#include "ops/reference/elements.h"

namespace tamias::reference {

void Add(Context&, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachIndex(a.shape(), [&](const Shape& i) { Set(output, i, Get(a, i) + Get(b, i)); });
}

void Multiply(Context&, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachIndex(a.shape(), [&](const Shape& i) { Set(output, i, Get(a, i) * Get(b, i)); });
}

void Axpy(Context&, float factor, ConstTensorView x, TensorView y) {
  ForEachIndex(x.shape(), [&](const Shape& i) { Set(y, i, Get(y, i) + factor * Get(x, i)); });
}

void ScaleShift(Context&, ConstTensorView input, float factor, float offset, TensorView output) {
  ForEachIndex(input.shape(),
               [&](const Shape& i) { Set(output, i, double{factor} * Get(input, i) + offset); });
}

void AbsoluteDifference(Context&, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachIndex(a.shape(), [&](const Shape& i) { Set(output, i, std::abs(Get(a, i) - Get(b, i))); });
}

void Convert(Context&, ConstTensorView input, TensorView output) {
  ForEachIndex(input.shape(), [&](const Shape& i) {
    if (output.dtype() == DType::kF32) return Set(output, i, Get(input, i));
    output.data<BFloat16>()[Offset(output, i)] = ToBFloat16(static_cast<float>(Get(input, i)));
  });
}

}  // namespace tamias::reference
