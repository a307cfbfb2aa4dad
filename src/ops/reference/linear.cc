// The dense layer: one dot product in double precision per output.
#include "ops/linear.h"

#include "ops/activation.h"
#include "ops/reference/elements.h"

namespace tamias::reference {

void Linear(Context&, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options) {
  ForEachIndex(output.shape(), [&](const Shape& i) {
    const int64_t n = i[i.rank() - 1];
    const Shape row = LeadingAxes(i);
    double sum = bias.empty() ? 0 : Get(bias, {n});
    for (int64_t k = 0; k < input.dim(-1); ++k) {
      sum += Get(input, With(row, k)) * Get(weight, {n, k});
    }
    const double value = ActivateScalar(options.activation, sum);
    Set(output, i, options.accumulate ? Get(output, i) + value : value);
  });
}

}  // namespace tamias::reference
