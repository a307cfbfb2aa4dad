// weight [O, C] -> [C, O] in the type of the context's activations, in the memory of its device.
#include "models/transposed_weight.h"

#include "base/device_memory.h"
#include "ops/transpose.h"

namespace tamias {

Tensor TransposedWeight(Context& context, ConstTensorView weight) {
  TAMIAS_CHECK(weight.rank() == 2);
  Tensor transposed =
      TensorOn(context.device(), {weight.dim(1), weight.dim(0)}, context.activation_dtype());
  Transpose(context, weight, transposed);
  return transposed;
}

}  // namespace tamias
