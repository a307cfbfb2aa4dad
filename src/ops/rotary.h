// The operations of tamias/ops/rotary.h as each device computes them. src/ops/rotary.cc checks the
// arguments and calls these.
#pragma once

#include "tamias/ops/rotary.h"

namespace tamias {

namespace reference {
void RmsNormRotary(Context& context, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output);
}  // namespace reference
namespace cpu {
void RmsNormRotary(Context& context, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output);
}  // namespace cpu

namespace cuda {
class Stream;
void RmsNormRotary(Stream& stream, std::span<const HeadRows> parts, float epsilon);
}  // namespace cuda

}  // namespace tamias
