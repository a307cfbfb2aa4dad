// Entry of the transposition: checks, then the device's implementation.
#include "ops/transpose.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void Transpose(Context& context, ConstTensorView input, TensorView output) {
  CheckMatrix(context, "transpose", "input", input, {-1, -1});
  CheckUnitStride("transpose", "input", input);
  CheckActivations(context, "transpose", "output", output, {input.dim(1), input.dim(0)});
  CheckContiguous("transpose", "output", output);
  Dispatch(
      context, [&] { cpu::Transpose(context, input, output); },
      [&](cuda::Stream& stream) { cuda::Transpose(stream, input, output); });
}

}  // namespace tamias
