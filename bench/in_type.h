// Operands of benchmarks in f32 or bf16.
#pragma once

#include "tamias/context.h"
#include "tamias/ops/elementwise.h"
#include "tamias/tensor.h"

namespace tamias::bench {

// Floats in another type, rounded to bf16 where that is it.
inline Tensor InType(const Tensor& floats, DType dtype) {
  Context context(1);
  Tensor tensor(floats.shape(), dtype);
  Convert(context, floats, tensor);
  return tensor;
}

}  // namespace tamias::bench
