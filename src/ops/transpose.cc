// Entry of the transposition: checks, then the device's implementation.
#include "ops/transpose.h"

#include "ops/check_tensor.h"

namespace tamias {

void Transpose(Context& context, ConstTensorView input, TensorView output) {
  if (context.IsOnGpu()) return cuda::Transpose(context.stream(), input, output);
  CheckWeight("transpose", "input", input, {-1, -1});
  CheckUnitStride("transpose", "input", input);
  CheckTensor("transpose", "output", output, DType::kF32, {input.dim(1), input.dim(0)});
  CheckContiguous("transpose", "output", output);
  cpu::Transpose(context, input, output);
}

}  // namespace tamias
