// Small weight vectors as contiguous fp32.
#pragma once

#include <algorithm>

#include "ops/elementwise.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias::cpu {

// The elements of `weight` in fp32: in place when it is f32, else widened into the workspace (valid
// until the caller's scope ends). nullptr for an empty view.
inline const float* WidenedData(Context& context, const ConstTensorView& weight) {
  if (weight.empty()) return nullptr;
  if (weight.dtype() == DType::kF32) return weight.data<float>();
  const TensorView widened = context.workspace().Allocate(weight.shape(), DType::kF32);
  if (!context.IsPlanning()) cpu::Convert(context, weight, widened);
  return widened.data<float>();
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
