// Values of float tensors on the host, whatever their element type: f32, f16 or bf16.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Of a contiguous float tensor the element i, in row-major order.
float ElementOf(const ConstTensorView& contiguous, int64_t i);

// A contiguous float tensor in another float type.
Tensor Converted(const Context& context, ConstTensorView contiguous, DType dtype);

// Whether one of the elements [begin, end) is NaN or infinite; never of a tensor that is not float.
bool HasNonFinite(ConstTensorView contiguous, int64_t begin, int64_t end);

}  // namespace tamias
