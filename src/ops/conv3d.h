// Three-dimensional convolution (cross-correlation, stride 1) of channels-last films.
// Shapes: B batch, T frames of H x W pixels, C input channels, O output channels, kt x kh x kw
// kernel.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

enum class PaddingMode {
  kZeros,
  kReplicate,  // repeats the nearest value; each side must be smaller than the kernel
};

// Frames, rows and columns around the input. A convolution that is causal in time has kt - 1 frames
// in front and none at the back; one that continues an earlier piece of the film has none at all:
// its input begins with the kt - 1 frames before.
struct Padding3d {
  int64_t front = 0;
  int64_t back = 0;
  int64_t top = 0;
  int64_t bottom = 0;
  int64_t left = 0;
  int64_t right = 0;
  PaddingMode mode = PaddingMode::kZeros;
};

struct Conv3dOptions {
  Padding3d padding;
  bool accumulate = false;  // output += convolution + bias
  // Applied to the input as it is read, before the padding: f(gain[b, t, c] x + offset[b, t, c]), f
  // = SiLU or identity; the second half of a group norm (ops/norm.h). [B, T, C] f32 contiguous, or
  // [B, 1, C] where all frames share them, or both empty.
  ConstTensorView input_gain = {};
  ConstTensorView input_offset = {};
  bool input_silu = false;
};

// output[b, t, y, x, o] = bias[o] + sum_{k,i,j,c} weight[o, c, k, i, j]
//                                   input[b, t + k - front, y + i - top, x + j - left, c].
// input [B, T, H, W, C] f32, output [B, T + front + back - kt + 1, ..., ..., O] f32: the frames of
// a film may lie apart, each frame is contiguous. weight [O, C, kt, kh, kw] f32, f16 or bf16, any
// strides with last stride 1 (a slice in time of a longer kernel is one); bias [O] f32, f16 or
// bf16, stride 1, or empty. Output must not overlap the input.
void Conv3d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView output);

namespace reference {
void Conv3d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView output);
}  // namespace reference
namespace cpu {
void Conv3d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView output);
}  // namespace cpu

// On a GPU: as Conv2d (ops/conv2d.h).
namespace cuda {
class Stream;
size_t Conv3dScratchBytes(const Shape& input, const ConstTensorView& weight, bool scales_input);
void Conv3d(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView scratch, TensorView output);
}  // namespace cuda

}  // namespace tamias
