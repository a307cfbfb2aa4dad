// The checks at the entry of an operation, one for all devices. Each throws kInvalidArgument with
// one line that names the operation, the argument, what was expected and what was found. Those with
// a context also refuse memory of another device than the context's. None looks at contents.
#pragma once

#include <string_view>

#include "tamias/context.h"
#include "tamias/tensor.h"

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

void CheckAtLeast(std::string_view operation, std::string_view argument, int64_t value,
                  int64_t least);

// The memory of the context's device; an empty view lies nowhere.
void CheckPlace(const Context& context, std::string_view operation, std::string_view argument,
                const ConstTensorView& view);

// CheckTensor in the context's memory.
void CheckTensor(const Context& context, std::string_view operation, std::string_view argument,
                 const ConstTensorView& view, DType dtype, const Shape& shape);

// CheckTensor in the context's memory, contiguous: index lists, counts, sums, masks.
void CheckList(const Context& context, std::string_view operation, std::string_view argument,
               const ConstTensorView& view, DType dtype, const Shape& shape);

// CheckWeight in the context's memory.
void CheckWeight(const Context& context, std::string_view operation, std::string_view argument,
                 const ConstTensorView& view, const Shape& shape);

// What a layer multiplies with: as CheckWeight, or fp8_e4m3 with scales of its rows.
void CheckMatrix(const Context& context, std::string_view operation, std::string_view argument,
                 const ConstTensorView& view, const Shape& shape);

// A bias or a gain, one for each feature: as CheckWeight with stride 1, or empty.
void CheckOptionalWeight(const Context& context, std::string_view operation,
                         std::string_view argument, const ConstTensorView& view, int64_t features);

// What layers hand to each other: f32 on the CPU, or bf16 where that is the type of the context's
// activations; f32, f16 or bf16 on a GPU.
void CheckActivations(const Context& context, std::string_view operation, std::string_view argument,
                      const ConstTensorView& view, const Shape& shape);

// CheckActivations with last stride 1.
void CheckActivationRows(const Context& context, std::string_view operation,
                         std::string_view argument, const ConstTensorView& view,
                         const Shape& shape);

}  // namespace tamias
