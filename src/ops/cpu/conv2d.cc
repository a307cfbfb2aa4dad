// Convolution of pictures: that of films (cpu/conv3d.cc) with one frame and a kernel of one frame.
#include "ops/conv2d.h"

#include "ops/conv3d.h"

namespace tamias::cpu {
namespace {

Padding3d InSpace(const Padding& padding) {
  return {
      .top = padding.top, .bottom = padding.bottom, .left = padding.left, .right = padding.right};
}

}  // namespace

void Conv2d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output) {
  Conv3dOptions film{.padding = InSpace(options.padding),
                     .accumulate = options.accumulate,
                     .input_silu = options.input_silu};
  if (!options.input_gain.empty()) {
    film.input_gain = options.input_gain.SplitAxis(0, input.dim(0), 1);
    film.input_offset = options.input_offset.SplitAxis(0, input.dim(0), 1);
  }
  cpu::Conv3d(context, input.SplitAxis(1, 1, input.dim(1)), weight.SplitAxis(2, 1, weight.dim(2)),
              bias, film, output.SplitAxis(1, 1, output.dim(1)));
}

}  // namespace tamias::cpu
