// The upsampling convolution as it is defined: enlarge, then convolve. The frames in front are part
// of the enlarged film, because they repeat whatever the padding in space.
#include "ops/upsample_conv3d.h"

#include <algorithm>

#include "ops/reference/elements.h"

namespace tamias::reference {

void UpsampleConv3d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView output) {
  const int64_t front = weight.dim(2) - 1;
  Tensor enlarged(
      {input.dim(0), output.dim(1) + front, 2 * input.dim(2), 2 * input.dim(3), input.dim(4)},
      DType::kF32);
  ForEachIndex(enlarged.shape(), [&](const Shape& i) {
    const int64_t t = std::max<int64_t>(i[1] - front, 0);
    const int64_t source = options.doubles_frames ? (t + 1) / 2 : t;
    Set(enlarged, i, Get(input, {i[0], source, i[2] / 2, i[3] / 2, i[4]}));
  });
  reference::Conv3d(context, enlarged, weight, bias,
                    {.padding = {0, 0, 1, 1, 1, 1, options.padding}}, output);
}

}  // namespace tamias::reference
