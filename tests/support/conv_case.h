// Random operands of convolutions.
#pragma once

#include "tests/support/operands.h"

namespace tamias {

struct ConvCase {
  Tensor input, weight, bias, gain, offset;
};

inline ConvCase RandomCase(Random& random, const Shape& input, const Shape& weight) {
  const float scale = 1 / std::sqrt(static_cast<float>(weight[1] * weight[2] * weight[3]));
  return {random.Normal(input), random.Normal(weight, scale, RandomWeightType(random)),
          random.Normal({weight[0]}, 1, RandomWeightType(random)),
          random.Normal({input[0], input[3]}), random.Normal({input[0], input[3]})};
}

// A view of a shape whose rows along the axis, and the batch, lie apart in a larger tensor. Axis 1:
// rows of pictures [B, H, W, C]; axis 2: rows of films [B, T, H, W, C].
inline TensorView Apart(Tensor& storage, const Shape& shape, int axis = 1) {
  Shape larger = shape;
  ++larger[0];
  larger[axis] += 2;
  storage = Tensor::Zeros(larger, DType::kF32);
  return storage.view().Slice(0, 0, shape[0]).Slice(axis, 1, 1 + shape[axis]);
}

}  // namespace tamias
