// Entry of the activations: checks, then the device's implementation.
#include "ops/activation.h"

#include "ops/check_tensor.h"

namespace tamias {

void Activate(Context& context, Activation activation, TensorView values) {
  if (context.IsOnGpu()) return cuda::Activate(context.stream(), activation, values);
  CheckTensor("activation", "values", values, DType::kF32, values.shape());
  CheckUnitStride("activation", "values", values);
  cpu::Activate(context, activation, values);
}

}  // namespace tamias
