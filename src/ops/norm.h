// The operations of tamias/ops/norm.h as each device computes them. src/ops/norm.cc checks the
// arguments and calls these.
#pragma once

#include "tamias/ops/norm.h"

namespace tamias {

namespace reference {
void LayerNorm(Context& context, ConstTensorView input, ConstTensorView weight,
               ConstTensorView bias, float epsilon, TensorView output);
void LayerNormModulate(Context& context, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output);
void RmsNorm(Context& context, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output);
void GroupNormStatistics(Context& context, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView gain, TensorView offset);
void ScaleShiftChannels(Context& context, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output);
}  // namespace reference
namespace cpu {
void LayerNorm(Context& context, ConstTensorView input, ConstTensorView weight,
               ConstTensorView bias, float epsilon, TensorView output);
void LayerNormModulate(Context& context, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output);
void RmsNorm(Context& context, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output);
void GroupNormStatistics(Context& context, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView gain, TensorView offset);
void ScaleShiftChannels(Context& context, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output);
}  // namespace cpu

namespace cuda {
class Stream;
void LayerNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
               float epsilon, TensorView output);
void LayerNormModulate(Stream& stream, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output);
void RmsNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output);
// C a multiple of 8 up to 2,048; input f32, f16 or bf16, gain and offset f32; the sums are taken in
// one order, whatever the GPU. scratch: u8 on the device, GroupNormStatisticsScratchBytes of them.
size_t GroupNormStatisticsScratchBytes(const Shape& input, int64_t groups);
void GroupNormStatistics(Stream& stream, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView scratch, TensorView gain, TensorView offset);
void ScaleShiftChannels(Stream& stream, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output);
}  // namespace cuda

}  // namespace tamias
