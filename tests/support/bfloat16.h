// Tensors in bf16 on the CPU, and the f32 tensors of the same values that references take.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tests/support/rounding.h"

namespace tamias {

inline Placement BFloat16OnCpu() { return {.device = {}, .activation_dtype = DType::kBF16}; }

// A contiguous f32 tensor in bf16, rounded.
inline Tensor InBFloat16(const Tensor& floats) { return Rounded(floats, DType::kBF16); }

// Rounds the values of a contiguous f32 tensor to bf16, where it lies.
inline void RoundToBFloat16(Tensor& floats) { floats = ToFloat32(InBFloat16(floats)); }

}  // namespace tamias
