// Normalisations over the last axis (layer norm, Ba et al., arXiv 1607.06450; RMS norm, Zhang and
// Sennrich, arXiv 1910.07467; adaptive layer norm of DiT, Peebles and Xie, arXiv 2212.09748) and
// over channel groups of a picture (group norm, Wu and He, arXiv 1803.08494).
// Shapes: B batch, N tokens, d width, H x W picture, C channels. Weights and biases may be f32, f16
// or bf16, stride 1; activations are f32, any strides with last stride 1. Output may be the input.
//
// On a GPU: input, output, weights, shift and scale each f32, f16 or bf16, arithmetic in fp32; d a
// multiple of 8, rows begin at multiples of 16 bytes. The work is enqueued.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias over the last axis.
// input, output [..., d]; weight, bias [d] or empty.
void LayerNorm(Context& context, ConstTensorView input, ConstTensorView weight,
               ConstTensorView bias, float epsilon, TensorView output);

// y[b, n, :] = LayerNorm(x[b, n, :]) * (1 + scale[b, :]) + shift[b, :].
// input, output [B, N, d]; shift, scale [B, d] f32.
void LayerNormModulate(Context& context, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output);

// y = x / sqrt(mean(x^2) + epsilon) * weight over the last axis. weight [d] or empty.
void RmsNorm(Context& context, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output);

// Normalises each picture over (H, W, the C / groups channels of a group), then applies weight and
// bias [C] (or empty) and, when `silu`, x sigmoid(x). input, output [B, H, W, C] channels-last,
// last stride 1. Mean and variance are gathered in double precision.
void GroupNorm(Context& context, ConstTensorView input, int64_t groups, ConstTensorView weight,
               ConstTensorView bias, float epsilon, bool silu, TensorView output);

// The two halves of GroupNorm, for pictures that are normalised strip by strip:
// gain, offset [B, C] f32 contiguous, such that GroupNorm(x)[b, y, x, c] = gain * x + offset.
void GroupNormStatistics(Context& context, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView gain, TensorView offset);
// output[b, y, x, c] = f(gain[b, c] * input[b, y, x, c] + offset[b, c]), f = SiLU or identity. The
// rows of a picture may lie apart.
void ScaleShiftChannels(Context& context, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output);

}  // namespace tamias
