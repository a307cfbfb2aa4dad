// The conversion from 8-bit floats, element by element.
#include "ops/dequantise.h"

#include "ops/reference/elements.h"

namespace tamias::reference {

void Dequantise(Context&, ConstTensorView matrix, TensorView output) {
  ForEachIndex(matrix.shape(), [&](const Shape& i) { Set(output, i, Get(matrix, i)); });
}

}  // namespace tamias::reference
