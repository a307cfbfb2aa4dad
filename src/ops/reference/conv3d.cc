// Convolution in time and space: one dot product in double precision per output.
#include "ops/conv3d.h"

#include <algorithm>

#include "ops/activation.h"
#include "ops/reference/elements.h"

namespace tamias::reference {
namespace {

// The input as the convolution sees it, padding included.
double Value(const ConstTensorView& input, const Conv3dOptions& options, Shape i) {
  for (int axis = 1; axis <= 3; ++axis) {
    const int64_t last = input.dim(axis) - 1;
    if (options.padding.mode == PaddingMode::kReplicate) {
      i[axis] = std::clamp<int64_t>(i[axis], 0, last);
    }
    if (i[axis] < 0 || i[axis] > last) return 0;
  }
  const double x = Get(input, i);
  if (options.input_gain.empty()) return x;
  const Shape channel = {i[0], options.input_gain.dim(1) == 1 ? 0 : i[1], i[4]};
  const double scaled = x * Get(options.input_gain, channel) + Get(options.input_offset, channel);
  return ActivateScalar(options.input_silu ? Activation::kSilu : Activation::kNone, scaled);
}

}  // namespace

void Conv3d(Context&, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView output) {
  const Padding3d& padding = options.padding;
  ForEachIndex(output.shape(), [&](const Shape& i) {
    double sum = bias.empty() ? 0 : Get(bias, {i[4]});
    ForEachIndex(weight.Select(0, 0).shape(), [&](const Shape& k) {
      const Shape value = {i[0], i[1] + k[1] - padding.front, i[2] + k[2] - padding.top,
                           i[3] + k[3] - padding.left, k[0]};
      sum += Get(weight, {i[4], k[0], k[1], k[2], k[3]}) * Value(input, options, value);
    });
    Set(output, i, options.accumulate ? Get(output, i) + sum : sum);
  });
}

}  // namespace tamias::reference
