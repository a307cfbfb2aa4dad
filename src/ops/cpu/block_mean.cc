// Block means: one task per group; its rows are summed strip by strip of the width, so that the
// sums stay in registers.
#include "ops/block_mean.h"

#include <algorithm>

#include "base/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/block_mean.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// output[k] = scale * sum of rows i < num_rows of input[i * stride + k], for kVectors vectors.
template <int kVectors, class D, typename From, typename To>
HWY_INLINE void SumColumns(D d, const From* input, int64_t stride, int64_t num_rows, float scale,
                           To* output) {
  const size_t lanes = hn::Lanes(d);
  hn::Vec<D> sum[kVectors];
  for (int v = 0; v < kVectors; ++v) sum[v] = hn::Zero(d);
  for (int64_t i = 0; i < num_rows; ++i, input += stride) {
    for (int v = 0; v < kVectors; ++v) {
      sum[v] = hn::Add(sum[v], lanes::LoadWidened(d, input + static_cast<size_t>(v) * lanes));
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    lanes::StoreNarrowed(hn::Mul(sum[v], hn::Set(d, scale)), d,
                         output + static_cast<size_t>(v) * lanes);
  }
}

// The same for k < columns.
void ScaledRowSum(cpu::ConstElements input, int64_t stride, int64_t num_rows, int64_t columns,
                  float scale, cpu::Elements output) {
  lanes::WithElements(
      [&](const auto* from, auto* to) HWY_ATTR {
        const hn::ScalableTag<float> d;
        const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
        int64_t k = 0;
        for (; k + 4 * lanes <= columns; k += 4 * lanes) {
          SumColumns<4>(d, from + k, stride, num_rows, scale, to + k);
        }
        for (; k + lanes <= columns; k += lanes) {
          SumColumns<1>(d, from + k, stride, num_rows, scale, to + k);
        }
        const hn::CappedTag<float, 1> one;
        for (; k < columns; ++k) SumColumns<1>(one, from + k, stride, num_rows, scale, to + k);
      },
      input, output);
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
      (ElementsAt(input, b * input.stride(0) + begin * input.stride(1)), input.stride(1),
       end - begin, columns, 1.0f / static_cast<float>(end - begin),
       ElementsAt(output, b * output.stride(0) + g * output.stride(1)));
    }
  });
}

}  // namespace tamias::cpu
#endif  // HWY_ONCE
