// Tensors in bf16 on the CPU, and the f32 tensors of the same values that references take.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

inline Placement BFloat16OnCpu() { return {.device = {}, .activation_dtype = DType::kBF16}; }

// A contiguous f32 tensor in bf16, rounded.
inline Tensor InBFloat16(const Tensor& floats) {
  Tensor result(floats.shape(), DType::kBF16);
  for (int64_t i = 0; i < floats.NumElements(); ++i) {
    result.data<BFloat16>()[i] = ToBFloat16(floats.data<float>()[i]);
  }
  return result;
}

// A contiguous bf16 or f32 tensor in f32.
inline Tensor InFloats(const Tensor& tensor) {
  if (tensor.dtype() == DType::kF32) return Tensor::CopyOf(tensor.view());
  Tensor result(tensor.shape(), DType::kF32);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    result.data<float>()[i] = ToFloat(tensor.data<BFloat16>()[i]);
  }
  return result;
}

// Rounds the values of a contiguous f32 tensor to bf16, where it lies.
inline void RoundToBFloat16(Tensor& floats) { floats = InFloats(InBFloat16(floats)); }

}  // namespace tamias
