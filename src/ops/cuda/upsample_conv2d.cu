// The upsampling convolution of pictures, which are films of one frame.
#include "ops/upsample_conv2d.h"

#include "ops/cuda/check_operand.h"
#include "ops/upsample_conv3d.h"

namespace tamias::cuda {

void UpsampleConv2d(Stream& stream, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView scratch, TensorView output) {
  UpsampleConv3d(stream, input.SplitAxis(1, 1, input.dim(1)), weight.SplitAxis(2, 1, 3), bias, {},
                 scratch, output.SplitAxis(1, 1, output.dim(1)));
}

}  // namespace tamias::cuda
