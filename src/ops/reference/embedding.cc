// Table lookup, element by element.
#include "ops/embedding.h"

#include "ops/reference/elements.h"

namespace tamias::reference {

void Embedding(Context&, ConstTensorView table, ConstTensorView ids, TensorView output) {
  const TensorView rows = output.Reshape({ids.NumElements(), table.dim(1)});
  ForEachIndex(rows.shape(), [&](const Shape& i) {
    Set(rows, i, Get(table, {ids.data<int32_t>()[i[0]], i[1]}));
  });
}

}  // namespace tamias::reference
