// Random operands of convolutions.
#pragma once

#include "tests/support/bfloat16.h"
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

// How a convolution of this type is called, and how far from the reference it may be: outputs have
// a variance of about 1, and each of up to four roundings of one to bf16 may be half of 2^-7 of it.
struct ConvTest {
  explicit ConvTest(DType type) : dtype(type) {}
  DType dtype;
  Placement placement() const { return {.device = {}, .activation_dtype = dtype}; }
  float tolerance() const { return dtype == DType::kBF16 ? 0.08f : 2e-5f; }

  // Values that the type holds, and the operand of them.
  Tensor Values(Tensor floats) const {
    if (dtype == DType::kBF16) RoundToBFloat16(floats);
    return floats;
  }
  Tensor Operand(const Tensor& values) const {
    return dtype == DType::kBF16 ? InBFloat16(values) : ToFloat32(values);
  }
};

// A view of a shape whose rows along the axis, and the batch, lie apart in a larger tensor. Axis 1:
// rows of pictures [B, H, W, C]; axis 2: rows of films [B, T, H, W, C].
inline TensorView Apart(Tensor& storage, const Shape& shape, int axis = 1,
                        DType dtype = DType::kF32) {
  Shape larger = shape;
  ++larger[0];
  larger[axis] += 2;
  storage = Tensor::Zeros(larger, dtype);
  return storage.view().Slice(0, 0, shape[0]).Slice(axis, 1, 1 + shape[axis]);
}

}  // namespace tamias
