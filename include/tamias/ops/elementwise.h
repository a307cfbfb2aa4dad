// Element-wise arithmetic and conversion between storage formats. Views of equal shapes, any rank,
// any strides with last stride 1.
//
// On a GPU: every operand f32, f16 or bf16, in any mixture, arithmetic in fp32; rows begin at
// multiples of 16 bytes. The work is enqueued.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// output = a + b, f32. Output may be a or b.
void Add(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);

// y += factor * x, f32.
void Axpy(Context& context, float factor, ConstTensorView x, TensorView y);

// output = factor * input + offset, f32. Output may be the input.
void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output);

// output = a * b, f32: the gate of gated MLPs. Output may be a or b.
void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);

// output = |a - b|, f32. Output may be a or b.
void AbsoluteDifference(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);

// output = input in the output's type, a copy where that is the input's: f32, f16 or bf16 to f32,
// or f32 to bf16, rounded to nearest, ties to even; NaN stays NaN.
void Convert(Context& context, ConstTensorView input, TensorView output);

}  // namespace tamias
