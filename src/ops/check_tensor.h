// The checks at the entry of an operation. Each throws kInvalidArgument with one line that names
// the operation, the argument, what was expected and what was found.
#pragma once

#include <string_view>

#include "base/tensor.h"

namespace tamias {

// The dtype and every dimension; a dimension of -1 accepts any size. An empty view is refused
// unless the expected shape holds no elements.
void CheckTensor(std::string_view operation, std::string_view argument, const ConstTensorView& view,
                 DType dtype, const Shape& shape);

// f32, f16 or bf16, and every dimension as above.
void CheckWeight(std::string_view operation, std::string_view argument, const ConstTensorView& view,
                 const Shape& shape);

// Elements of the last axis follow each other in memory.
void CheckUnitStride(std::string_view operation, std::string_view argument,
                     const ConstTensorView& view);

void CheckContiguous(std::string_view operation, std::string_view argument,
                     const ConstTensorView& view);

}  // namespace tamias
