// Entry of the query and key preparation: checks, then the device's implementation.
#include "ops/rotary.h"

#include "ops/check_tensor.h"

namespace tamias {

void RmsNormRotary(Context& context, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output) {
  if (context.IsOnGpu()) {
    return cuda::RmsNormRotary(context.stream(), input, norm_weight, epsilon, cosine, sine, output);
  }
  CheckTensor("rms norm rotary", "input", input, DType::kF32, {-1, -1, -1, -1});
  CheckTensor("rms norm rotary", "output", output, DType::kF32, input.shape());
  CheckUnitStride("rms norm rotary", "input", input);
  CheckUnitStride("rms norm rotary", "output", output);
  if (!norm_weight.empty()) {
    CheckWeight("rms norm rotary", "norm_weight", norm_weight, {input.dim(3)});
    CheckUnitStride("rms norm rotary", "norm_weight", norm_weight);
  }
  if (!cosine.empty() || !sine.empty()) {
    if (input.dim(3) % 2 != 0) {
      Fail(ErrorCode::kInvalidArgument,
           "rms norm rotary: input: expected an even head dimension, found {}", input.dim(3));
    }
    const Shape shared = {input.dim(2), input.dim(3)};
    const Shape per_head = {input.dim(1), input.dim(2), input.dim(3)};
    const Shape& angles = cosine.rank() == 3 ? per_head : shared;
    CheckTensor("rms norm rotary", "cosine", cosine, DType::kF32, angles);
    CheckTensor("rms norm rotary", "sine", sine, DType::kF32, angles);
    CheckUnitStride("rms norm rotary", "cosine", cosine);
    CheckUnitStride("rms norm rotary", "sine", sine);
  }
  cpu::RmsNormRotary(context, input, norm_weight, epsilon, cosine, sine, output);
}

}  // namespace tamias
