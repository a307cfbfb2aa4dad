// A weight matrix turned on its side, for kernels that gather its columns.
#pragma once

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

// weight [rows, columns] f32, f16 or bf16, last stride 1, on the context's device -> [columns,
// rows] there, contiguous, in the type of its activations.
Tensor TransposedWeight(Context& context, ConstTensorView weight);

}  // namespace tamias
