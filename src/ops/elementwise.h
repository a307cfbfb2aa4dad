// The operations of tamias/ops/elementwise.h as each device computes them. src/ops/elementwise.cc
// checks the arguments and calls these.
#pragma once

#include "tamias/ops/elementwise.h"

namespace tamias {

namespace reference {
void Add(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);
void Axpy(Context& context, float factor, ConstTensorView x, TensorView y);
void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output);
void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);
void AbsoluteDifference(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);
void Convert(Context& context, ConstTensorView input, TensorView output);
}  // namespace reference
namespace cpu {
void Add(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);
void Axpy(Context& context, float factor, ConstTensorView x, TensorView y);
void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output);
void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);
void AbsoluteDifference(Context& context, ConstTensorView a, ConstTensorView b, TensorView output);
void Convert(Context& context, ConstTensorView input, TensorView output);
}  // namespace cpu

namespace cuda {
class Stream;
void Add(Stream& stream, ConstTensorView a, ConstTensorView b, TensorView output);
void Axpy(Stream& stream, float factor, ConstTensorView x, TensorView y);
void ScaleShift(Stream& stream, ConstTensorView input, float factor, float offset,
                TensorView output);
void Multiply(Stream& stream, ConstTensorView a, ConstTensorView b, TensorView output);
void AbsoluteDifference(Stream& stream, ConstTensorView a, ConstTensorView b, TensorView output);
// From any type to any.
void Convert(Stream& stream, ConstTensorView input, TensorView output);
}  // namespace cuda

}  // namespace tamias
