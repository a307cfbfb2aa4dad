// A convolution of an enlarged film, causal in time, channels-last: the upsampler of video
// autoencoders (HunyuanVideo, Kong et al., arXiv 2412.03603).
// Shapes: B batch, T frames of H x W pixels, C input channels, O output channels, kt frames of
// kernel.
#pragma once

#include "ops/conv3d.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

struct UpsampleConv3dOptions {
  bool doubles_frames = false;                // every frame but the first is repeated
  PaddingMode padding = PaddingMode::kZeros;  // in space; in time the first frame is repeated
};

// The frames that T become.
inline int64_t UpsampledFrames(int64_t frames, bool doubles_frames) {
  return doubles_frames ? 2 * frames - 1 : frames;
}

// output[b, t, y, x, o] = bias[o] + sum_{k,i,j,c} weight[o, c, k, i, j]
//                                   E[b, t + k - (kt - 1), y + i - 1, x + j - 1, c]
// with E[b, t, y, x, c] = input[b, s(t), y / 2, x / 2, c], s(t) = t or, with doubled frames,
// (t + 1) / 2, both 0 for t < 0. input [B, T, H, W, C] f32, output [B, UpsampledFrames(T), 2H, 2W,
// O] f32: the frames of a film may lie apart, each frame is contiguous. weight [O, C, kt, 3, 3]
// f32, f16 or bf16, contiguous; bias [O] f32, f16 or bf16, stride 1, or empty. Output must not
// overlap the input.
void UpsampleConv3d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView output);

namespace reference {
void UpsampleConv3d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView output);
}  // namespace reference
namespace cpu {
void UpsampleConv3d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView output);
}  // namespace cpu

// On a GPU: as Conv2d (ops/conv2d.h).
namespace cuda {
class Stream;
size_t UpsampleConv3dScratchBytes(const ConstTensorView& weight);
void UpsampleConv3d(Stream& stream, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView scratch,
                    TensorView output);
}  // namespace cuda

}  // namespace tamias
