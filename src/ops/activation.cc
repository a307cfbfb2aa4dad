// Entry of the activations: checks, then the device's implementation.
#include "ops/activation.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void Activate(Context& context, Activation activation, TensorView values) {
  CheckActivationRows(context, "activation", "values", values, values.shape());
  Dispatch(
      context, [&] { cpu::Activate(context, activation, values); },
      [&](cuda::Stream& stream) { cuda::Activate(stream, activation, values); });
}

}  // namespace tamias
