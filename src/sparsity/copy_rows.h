// Copies between tensors of one shape by all threads: states and outputs are larger than caches.
#pragma once

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

// f32, rank 3, last stride 1; no overlap.
void CopyRows(Context& context, ConstTensorView source, TensorView destination);

}  // namespace tamias
