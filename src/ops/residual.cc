// Entry of the gated residual: checks, then the device's implementation.
#include "ops/residual.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void GatedResidual(Context& context, TensorView x, ConstTensorView gate, ConstTensorView y) {
  CheckActivationRows(context, "gated residual", "x", x, {-1, -1, -1});
  CheckActivationRows(context, "gated residual", "gate", gate, {x.dim(0), x.dim(2)});
  CheckActivationRows(context, "gated residual", "y", y, x.shape());
  Dispatch(
      context, [&] { cpu::GatedResidual(context, x, gate, y); },
      [&](cuda::Stream& stream) { cuda::GatedResidual(stream, x, gate, y); });
}

}  // namespace tamias
