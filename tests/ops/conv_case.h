// Random operands of convolutions.
#pragma once

#include "tests/ops/operands.h"

namespace tamias::testing {

struct ConvCase {
  Tensor input, weight, bias, gain, offset;
};

inline ConvCase RandomCase(Random& random, const Shape& input, const Shape& weight) {
  const float scale = 1 / std::sqrt(static_cast<float>(weight[1] * weight[2] * weight[3]));
  return {random.Normal(input), random.Normal(weight, scale, RandomWeightType(random)),
          random.Normal({weight[0]}, 1, RandomWeightType(random)),
          random.Normal({input[0], input[3]}), random.Normal({input[0], input[3]})};
}

// Pictures of a batch that lie apart in memory.
inline TensorView Apart(Tensor& storage, const Shape& shape) {
  Shape larger = shape;
  ++larger[0];
  larger[1] += 2;
  storage = Tensor::Zeros(larger);
  return storage.view().Slice(0, 0, shape[0]).Slice(1, 1, 1 + shape[1]);
}

}  // namespace tamias::testing
