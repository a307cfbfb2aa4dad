// Convolution of films: convolution.cu as it is.
#include "ops/conv3d.h"

#include "ops/cuda/convolution.h"

namespace tamias::cuda {

void Conv3d(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView scratch, TensorView output) {
  Convolve(stream,
           {.name = "conv3d", .input = input, .weight = weight, .bias = bias, .options = options},
           scratch, output);
}

}  // namespace tamias::cuda
