// Contiguous tensors of the host in other float types.
#pragma once

#include "tamias/tensor.h"

namespace tamias {

// f32, f16 or bf16 to f32.
inline Tensor ToFloat32(ConstTensorView tensor) {
  Tensor result(tensor.shape(), DType::kF32);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    float& value = result.data<float>()[i];
    if (tensor.dtype() == DType::kF32) value = tensor.data<float>()[i];
    if (tensor.dtype() == DType::kBF16) value = ToFloat(tensor.data<BFloat16>()[i]);
    if (tensor.dtype() == DType::kF16) value = ToFloat(tensor.data<Float16>()[i]);
  }
  return result;
}

// Contiguous f32 to bf16 or f16, rounding to nearest.
inline Tensor Rounded(ConstTensorView tensor, DType dtype) {
  Tensor result(tensor.shape(), dtype);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    const float value = tensor.data<float>()[i];
    if (dtype == DType::kBF16) {
      result.data<BFloat16>()[i] = ToBFloat16(value);
    } else {
      result.data<Float16>()[i] = ToFloat16(value);
    }
  }
  return result;
}

}  // namespace tamias
