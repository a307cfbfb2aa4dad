// A weight matrix turned on its side and widened to fp32, for kernels that gather its columns.
#pragma once

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

// weight [rows, columns] f32, f16 or bf16, last stride 1 -> [columns, rows] f32, contiguous.
Tensor TransposedWeight(const Context& context, ConstTensorView weight);

}  // namespace tamias
