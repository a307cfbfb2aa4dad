// Tensors and small weight vectors in the one type that code computes with, mostly fp32.
#pragma once

#include <algorithm>

#include "ops/elementwise.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias::cpu {

// `view` itself where it has the type (or is empty), else its values in it, valid until the
// caller's scope ends.
inline ConstTensorView InType(Context& context, const ConstTensorView& view, DType dtype) {
  if (view.empty() || view.dtype() == dtype) return view;
  const TensorView converted = context.workspace().Allocate(view.shape(), dtype);
  if (!context.IsPlanning()) cpu::Convert(context, view, converted);
  return converted;
}

inline ConstTensorView Widened(Context& context, const ConstTensorView& view) {
  return InType(context, view, DType::kF32);
}

// body(an f32 output): `output` itself where it is f32, else memory that is then rounded into it
// and, where the body needs what the output held, begins with that.
template <typename Body>
void WithWideOutput(Context& context, const TensorView& output, bool keeps, const Body& body) {
  if (output.empty() || output.dtype() == DType::kF32) return body(output);
  const TensorView wide = context.workspace().Allocate(output.shape(), DType::kF32);
  if (keeps && !context.IsPlanning()) cpu::Convert(context, output, wide);
  body(wide);
  if (!context.IsPlanning()) cpu::Convert(context, wide, output);
}

// The elements of `weight` in fp32: in place when it is f32, else widened into the workspace (valid
// until the caller's scope ends). nullptr for an empty view.
inline const float* WidenedData(Context& context, const ConstTensorView& weight) {
  if (weight.empty()) return nullptr;
  return Widened(context, weight).data<float>();
}

// As above; a missing weight becomes `count` times `value`.
inline const float* WidenedDataOr(Context& context, const ConstTensorView& weight, int64_t count,
                                  float value) {
  if (!weight.empty()) return WidenedData(context, weight);
  float* filled = context.workspace().Allocate({count}, DType::kF32).data<float>();
  if (!context.IsPlanning()) std::fill_n(filled, count, value);
  return filled;
}

}  // namespace tamias::cpu
