// Block means, sums in double precision.
#include "ops/block_mean.h"

#include <algorithm>

namespace tamias::reference {

void BlockMean(Context&, ConstTensorView input, int64_t group_size, TensorView output) {
  for (int64_t b = 0; b < output.dim(0); ++b) {
    for (int64_t g = 0; g < output.dim(1); ++g) {
      const int64_t begin = g * group_size, end = std::min(begin + group_size, input.dim(1));
      for (int64_t k = 0; k < output.dim(2); ++k) {
        double sum = 0;
        for (int64_t i = begin; i < end; ++i) {
          sum += static_cast<double>(
              input.data<float>()[b * input.stride(0) + i * input.stride(1) + k]);
        }
        output.data<float>()[b * output.stride(0) + g * output.stride(1) + k] =
            static_cast<float>(sum / static_cast<double>(end - begin));
      }
    }
  }
}

}  // namespace tamias::reference
