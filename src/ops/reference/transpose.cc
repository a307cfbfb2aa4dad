// The transposition, element by element.
#include "ops/transpose.h"

#include "ops/reference/elements.h"

namespace tamias::reference {

void Transpose(Context&, ConstTensorView input, TensorView output) {
  ForEachIndex(input.shape(), [&](const Shape& i) { Set(output, {i[1], i[0]}, Get(input, i)); });
}

}  // namespace tamias::reference
