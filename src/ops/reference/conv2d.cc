// Convolution: one dot product in double precision per output.
#include "ops/conv2d.h"

#include "ops/activation.h"
#include "ops/reference/elements.h"

namespace tamias::reference {
namespace {

// The input as the convolution sees it; zero in the padding.
double Pixel(const ConstTensorView& input, const Conv2dOptions& options, const Shape& i) {
  if (i[1] < 0 || i[1] >= input.dim(1) || i[2] < 0 || i[2] >= input.dim(2)) return 0;
  const double x = Get(input, i);
  if (options.input_gain.empty()) return x;
  const double scaled =
      x * Get(options.input_gain, {i[0], i[3]}) + Get(options.input_offset, {i[0], i[3]});
  return ActivateScalar(options.input_silu ? Activation::kSilu : Activation::kNone, scaled);
}

}  // namespace

void Conv2d(Context&, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output) {
  ForEachIndex(output.shape(), [&](const Shape& i) {
    double sum = bias.empty() ? 0 : Get(bias, {i[3]});
    ForEachIndex(weight.Select(0, 0).shape(), [&](const Shape& k) {
      const Shape pixel = {i[0], i[1] + k[1] - options.padding.top,
                           i[2] + k[2] - options.padding.left, k[0]};
      sum += Get(weight, {i[3], k[0], k[1], k[2]}) * Pixel(input, options, pixel);
    });
    Set(output, i, options.accumulate ? Get(output, i) + sum : sum);
  });
}

}  // namespace tamias::reference
