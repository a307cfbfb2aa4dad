// Table lookup: one widened row after the other. A prompt is a few hundred rows.
#include "ops/embedding.h"

#include "ops/elementwise.h"

namespace tamias::cpu {

void Embedding(Context& context, ConstTensorView table, ConstTensorView ids, TensorView output) {
  const TensorView rows = output.Reshape({ids.NumElements(), table.dim(1)});
  for (int64_t i = 0; i < rows.dim(0); ++i) {
    cpu::Convert(context, table.Select(0, ids.data<int32_t>()[i]), rows.Select(0, i));
  }
}

}  // namespace tamias::cpu
