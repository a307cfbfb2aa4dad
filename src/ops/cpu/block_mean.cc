// Block means: one task per group; its rows are summed strip by strip of the width, so that the
// sums stay in registers.
#include "ops/block_mean.h"

#include <algorithm>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/block_mean.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "ops/cpu/tail-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// output[k] = scale * sum of rows i < num_rows of input[i * stride + k], k < columns.
void ScaledRowSum(const float* input, int64_t stride, int64_t num_rows, int64_t columns,
                  float scale, float* output) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, scale);
  int64_t k = 0;
  for (; k + 4 * lanes <= columns; k += 4 * lanes) {
    auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
    const float* row = input + k;
    for (int64_t i = 0; i < num_rows; ++i, row += stride) {
      sum0 = hn::Add(sum0, hn::LoadU(d, row));
      sum1 = hn::Add(sum1, hn::LoadU(d, row + lanes));
      sum2 = hn::Add(sum2, hn::LoadU(d, row + 2 * lanes));
      sum3 = hn::Add(sum3, hn::LoadU(d, row + 3 * lanes));
    }
    hn::StoreU(hn::Mul(sum0, factor), d, output + k);
    hn::StoreU(hn::Mul(sum1, factor), d, output + k + lanes);
    hn::StoreU(hn::Mul(sum2, factor), d, output + k + 2 * lanes);
    hn::StoreU(hn::Mul(sum3, factor), d, output + k + 3 * lanes);
  }
  for (; k < columns; k += lanes) {
    const int64_t count = std::min(lanes, columns - k);
    auto sum = hn::Zero(d);
    for (int64_t i = 0; i < num_rows; ++i) {
      sum = hn::Add(sum, tail::LoadFirst(d, input + i * stride + k, count));
    }
    tail::StoreFirst(hn::Mul(sum, factor), d, output + k, count);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias::cpu {
namespace {
HWY_EXPORT(ScaledRowSum);
}

void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output) {
  const int64_t groups = output.dim(1), columns = output.dim(2);
  ParallelForRanges(context, output.dim(0) * groups, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t b = task / groups, g = task % groups;
      const int64_t begin = g * group_size, end = std::min(begin + group_size, input.dim(1));
      HWY_DYNAMIC_DISPATCH(ScaledRowSum)
      (input.data<float>() + b * input.stride(0) + begin * input.stride(1), input.stride(1),
       end - begin, columns, 1.0f / static_cast<float>(end - begin),
       output.data<float>() + b * output.stride(0) + g * output.stride(1));
    }
  });
}

}  // namespace tamias::cpu
#endif  // HWY_ONCE
