// Convolution of films: convolution.cu as it is.
#include "ops/conv3d.h"

#include "ops/cuda/convolution.h"

namespace tamias::cuda {

size_t Conv3dScratchBytes(const Shape& input, const ConstTensorView& weight, bool scales_input) {
  return ConvolutionScratchBytes(input, weight, scales_input);
}

void Conv3d(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView scratch, TensorView output) {
  Convolve(stream,
           {.name = "conv3d", .input = input, .weight = weight, .bias = bias, .options = options},
           scratch, output);
}

}  // namespace tamias::cuda
