// Entry of the dense layer: checks, then the device's implementation.
#include "ops/linear.h"

#include "ops/check_tensor.h"

namespace tamias {

void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options) {
  if (input.rank() < 1) {
    Fail(ErrorCode::kInvalidArgument, "linear: input: expected at least one axis, found none");
  }
  CheckTensor("linear", "input", input, DType::kF32, input.shape());
  CheckUnitStride("linear", "input", input);
  CheckWeight("linear", "weight", weight, {-1, input.dim(-1)});
  CheckUnitStride("linear", "weight", weight);
  if (!bias.empty()) {
    CheckWeight("linear", "bias", bias, {weight.dim(0)});
    CheckUnitStride("linear", "bias", bias);
  }
  Shape shape = input.shape();
  shape[shape.rank() - 1] = weight.dim(0);
  CheckTensor("linear", "output", output, DType::kF32, shape);
  CheckUnitStride("linear", "output", output);
  cpu::Linear(context, input, weight, bias, output, options);
}

}  // namespace tamias
