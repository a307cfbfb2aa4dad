// Entry of the gated residual: checks, then the device's implementation.
#include "ops/residual.h"

#include "ops/check_tensor.h"

namespace tamias {

void GatedResidual(Context& context, TensorView x, ConstTensorView gate, ConstTensorView y) {
  if (context.IsOnGpu()) return cuda::GatedResidual(context.stream(), x, gate, y);
  CheckTensor("gated residual", "x", x, DType::kF32, {-1, -1, -1});
  CheckTensor("gated residual", "gate", gate, DType::kF32, {x.dim(0), x.dim(2)});
  CheckTensor("gated residual", "y", y, DType::kF32, x.shape());
  CheckUnitStride("gated residual", "x", x);
  CheckUnitStride("gated residual", "gate", gate);
  CheckUnitStride("gated residual", "y", y);
  cpu::GatedResidual(context, x, gate, y);
}

}  // namespace tamias
