// The gated residual, element by element in double precision.
#include "ops/residual.h"

#include "ops/reference/elements.h"

namespace tamias::reference {

void GatedResidual(Context&, TensorView x, ConstTensorView gate, ConstTensorView y) {
  ForEachIndex(x.shape(), [&](const Shape& i) {
    Set(x, i, Get(x, i) + Get(gate, {i[0], i[2]}) * Get(y, i));
  });
}

}  // namespace tamias::reference
