// The upsampling convolution: the enlarged film is never stored, its taps are halved positions.
#include "ops/upsample_conv3d.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/convolution.h"

namespace tamias::cuda {

void UpsampleConv3d(Stream& stream, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView scratch,
                    TensorView output) {
  Convolve(stream,
           {.name = "upsample conv3d",
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
