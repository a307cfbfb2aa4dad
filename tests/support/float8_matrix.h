// Random matrices in 8-bit floats, and what they stand for.
#pragma once

#include <cmath>
#include <utility>

#include "ops/dequantise.h"
#include "ops/quantise_rows.h"
#include "tests/support/random_tensors.h"

namespace tamias {

struct Float8Matrix {
  Tensor codes, scales;

  ConstTensorView view() const { return codes.view().WithRowScales(scales.data<float>()); }
  // scale[n] code[n, k], in f32.
  Tensor Wide() const {
    Tensor wide(codes.shape(), DType::kF32);
    for (int64_t i = 0; i < wide.NumElements(); ++i) {
      wide.data<float>()[i] =
          scales.data<float>()[i / codes.dim(1)] * ToFloat(codes.data<Float8E4M3>()[i]);
    }
    return wide;
  }
};

// Of all codes but NaN, with scales of about `scale` / 448.
inline Float8Matrix RandomFloat8Matrix(Random& random, int64_t rows, int64_t columns,
                                       float scale = 1) {
  Float8Matrix matrix{Tensor({rows, columns}, DType::kF8E4M3), Tensor({rows}, DType::kF32)};
  for (int64_t i = 0; i < rows * columns; ++i) {
    auto bits = static_cast<uint8_t>(random.Integer(0, 255));
    if ((bits & 0x7F) == 0x7F) bits ^= 1;
    matrix.codes.data<Float8E4M3>()[i] = {bits};
  }
  const int exponent = std::ilogb(scale / 448);
  for (int64_t n = 0; n < rows; ++n) {
    matrix.scales.data<float>()[n] =
        std::ldexp(1.0f, exponent + static_cast<int>(random.Integer(-2, 2)));
  }
  return matrix;
}

// Rows [.., N, K] as 8-bit floats hold them, by the references: [all rows, K] in f32.
inline Tensor RoundedToFloat8(ConstTensorView rows) {
  Context context(1);
  const bool is_matrix = rows.rank() == 2;
  const Shape shape = is_matrix ? Shape{1, rows.dim(0), rows.dim(1)} : rows.shape();
  Tensor codes(shape, DType::kF8E4M3), scales({shape[0], shape[1]}, DType::kF32);
  reference::QuantiseRows(context, is_matrix ? rows.SplitAxis(0, 1, rows.dim(0)) : rows, codes,
                          scales);
  Tensor rounded({shape[0] * shape[1], shape[2]}, DType::kF32);
  reference::Dequantise(context, MatrixOf(codes, scales), rounded);
  return rounded;
}

}  // namespace tamias
