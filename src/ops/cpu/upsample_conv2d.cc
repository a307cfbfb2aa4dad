// The upsampling convolution of pictures: that of films (cpu/upsample_conv3d.cc) with one frame.
#include "ops/upsample_conv2d.h"

#include "ops/upsample_conv3d.h"

namespace tamias {
namespace cpu {

void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output) {
  cpu::UpsampleConv3d(context, input.SplitAxis(1, 1, input.dim(1)), weight.SplitAxis(2, 1, 3), bias,
                      {}, output.SplitAxis(1, 1, output.dim(1)));
}

}  // namespace cpu

size_t UpsampleConv2dWorkspaceBytes(const Context& context, const Shape& input,
                                    const ConstTensorView& weight) {
  return UpsampleConv3dWorkspaceBytes(context, {input[0], 1, input[1], input[2], input[3]},
                                      weight.SplitAxis(2, 1, 3), {});
}

}  // namespace tamias
