// The upsampling convolution: the enlarged film is never stored, its taps are halved positions.
#include "ops/upsample_conv3d.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/convolution.h"

namespace tamias::cuda {
namespace {

constexpr const char* kName = "upsample conv3d";

}  // namespace

void UpsampleConv3d(Stream& stream, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView scratch,
                    TensorView output) {
  CheckFloats(kName, "input", input, {-1, -1, -1, -1, -1});
  CheckFloats(kName, "weight", weight, {-1, input.dim(4), -1, 3, 3});
  CheckRange(kName, "input: frames", input.dim(1), 1, INT32_MAX);
  CheckRange(kName, "weight: frames", weight.dim(2), 1, INT32_MAX);
  Convolve(stream,
           {.name = kName,
            .input = input,
            .weight = weight,
            .bias = bias,
            .options = {.padding = {weight.dim(2) - 1, 0, 1, 1, 1, 1, options.padding}},
            .doubles_pixels = true,
            .doubles_frames = options.doubles_frames,
            .repeats_first_frame = true},
           scratch, output);
}

}  // namespace tamias::cuda
