// A 3 x 3 convolution, padding 1, of a picture enlarged twofold by repeating its pixels (the
// upsampler of latent diffusion's autoencoder, Rombach et al., arXiv 2112.10752), channels-last.
// Shapes: B batch, H x W picture, C input channels, O output channels.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// output[b, y, x, o] = bias[o] + sum_{i,j,c} weight[o, c, i, j] E[b, y + i - 1, x + j - 1, c] with
// E[b, y, x, c] = input[b, y / 2, x / 2, c], zero outside. input [B, H, W, C] f32, output
// [B, 2H, 2W, O] f32: the pictures of a batch may lie apart, each picture is contiguous. weight
// [O, C, 3, 3] f32, f16 or bf16, contiguous; bias [O] f32, f16 or bf16, stride 1, or empty. Output
// must not overlap the input.
void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output);

namespace reference {
void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output);
}  // namespace reference
namespace cpu {
void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output);
}  // namespace cpu

// On a GPU: as Conv2d (ops/conv2d.h).
namespace cuda {
class Stream;
size_t UpsampleConv2dScratchBytes(const ConstTensorView& weight);
void UpsampleConv2d(Stream& stream, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView scratch, TensorView output);
}  // namespace cuda

}  // namespace tamias
