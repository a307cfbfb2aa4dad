// The upsampling convolution as it is defined: enlarge, then convolve.
#include "ops/upsample_conv2d.h"

#include "ops/conv2d.h"
#include "ops/reference/elements.h"

namespace tamias::reference {

void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output) {
  Tensor enlarged({input.dim(0), 2 * input.dim(1), 2 * input.dim(2), input.dim(3)}, DType::kF32);
  ForEachIndex(enlarged.shape(), [&](const Shape& i) {
    Set(enlarged, i, Get(input, {i[0], i[1] / 2, i[2] / 2, i[3]}));
  });
  reference::Conv2d(context, enlarged, weight, bias, {.padding = {1, 1, 1, 1}}, output);
}

}  // namespace tamias::reference
