// Two-dimensional convolution (cross-correlation, stride 1) of channels-last pictures.
// Shapes: B batch, H x W picture, C input channels, O output channels, kh x kw kernel.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Rows and columns of zeros around the input.
struct Padding {
  int64_t top = 0;
  int64_t bottom = 0;
  int64_t left = 0;
  int64_t right = 0;
};

struct Conv2dOptions {
  Padding padding;
  bool accumulate = false;  // output += convolution + bias
  // Applied to the input as it is read, before the padding: f(gain[b, c] x + offset[b, c]), f =
  // SiLU or identity; the second half of a group norm (ops/norm.h). [B, C] f32 contiguous, or both
  // empty.
  ConstTensorView input_gain = {};
  ConstTensorView input_offset = {};
  bool input_silu = false;
};

// output[b, y, x, o] = bias[o] + sum_{i,j,c} weight[o, c, i, j] input[b, y + i - top, x + j - left,
// c]. input [B, H, W, C] f32, output [B, H + top + bottom - kh + 1, W + left + right - kw + 1, O]
// f32: the pictures of a batch may lie apart, each picture is contiguous. weight [O, C, kh, kw]
// f32, f16 or bf16, contiguous; bias [O] f32, f16 or bf16, stride 1, or empty. Output must not
// overlap the input.
void Conv2d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output);

namespace reference {
void Conv2d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output);
}  // namespace reference
namespace cpu {
void Conv2d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output);
}  // namespace cpu

// On a GPU of compute capability 8.0 or later: input f16 or bf16, weight, bias and output each f32,
// f16 or bf16 (the weight is rounded to the input's type), products accumulated in fp32. Where C
// is no multiple of 8 the input is copied with zeros behind it, and cannot be scaled; the rows of
// one that is, and of an output with O a multiple of 8, begin at multiples of 16 bytes. scratch: u8
// on the device, Conv2dScratchBytes(input.shape(), ...) of them. Returns once the work is enqueued.
namespace cuda {
class Stream;
size_t Conv2dScratchBytes(const Shape& input, const ConstTensorView& weight, bool scales_input);
void Conv2d(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView scratch, TensorView output);
}  // namespace cuda

}  // namespace tamias
