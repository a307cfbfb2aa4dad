// The upsampling convolution of pictures, which are films of one frame.
#include "ops/upsample_conv2d.h"

#include "ops/cuda/check_operand.h"
#include "ops/upsample_conv3d.h"

namespace tamias::cuda {
namespace {

constexpr std::string_view kName = "upsample conv2d";

}  // namespace

void UpsampleConv2d(Stream& stream, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView scratch, TensorView output) {
  CheckFloats(kName, "input", input, {-1, -1, -1, -1});
  CheckFloats(kName, "weight", weight, {-1, input.dim(3), 3, 3});
  CheckFloats(kName, "output", output,
              {input.dim(0), 2 * input.dim(1), 2 * input.dim(2), weight.dim(0)});
  UpsampleConv3d(stream, input.SplitAxis(1, 1, input.dim(1)), weight.SplitAxis(2, 1, 3), bias, {},
                 scratch, output.SplitAxis(1, 1, output.dim(1)));
}

}  // namespace tamias::cuda
