// Convolution of pictures, which are films of one frame.
#include "ops/conv2d.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/convolution.h"

namespace tamias::cuda {
namespace {

// [B, H, W, C] -> [B, 1, H, W, C], and [O, C, kh, kw] -> [O, C, 1, kh, kw].
template <typename View>
View AsFilm(const View& view, int frame_axis) {
  return view.SplitAxis(frame_axis, 1, view.dim(frame_axis));
}

// [B, C] -> [B, 1, C].
ConstTensorView AsFrame(const ConstTensorView& view) {
  return view.empty() ? view : view.SplitAxis(1, 1, view.dim(1));
}

}  // namespace

void Conv2d(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView scratch, TensorView output) {
  const Padding& p = options.padding;
  Convolve(stream,
           {.name = "conv2d",
            .input = AsFilm(input, 1),
            .weight = AsFilm(weight, 2),
            .bias = bias,
            .options = {.padding = {0, 0, p.top, p.bottom, p.left, p.right},
                        .accumulate = options.accumulate,
                        .input_gain = AsFrame(options.input_gain),
                        .input_offset = AsFrame(options.input_offset),
                        .input_silu = options.input_silu}},
           scratch, AsFilm(output, 1));
}

}  // namespace tamias::cuda
