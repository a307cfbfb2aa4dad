// The upsampling convolution of pictures: that of films (cpu/upsample_conv3d.cc) with one frame.
#include "ops/upsample_conv2d.h"

#include "ops/upsample_conv3d.h"

namespace tamias::cpu {

void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output) {
  cpu::UpsampleConv3d(context, input.SplitAxis(1, 1, input.dim(1)), weight.SplitAxis(2, 1, 3), bias,
                      {}, output.SplitAxis(1, 1, output.dim(1)));
}

}  // namespace tamias::cpu
