// The conversion to 8-bit floats, rows in parallel. Not vectorised by hand: no processor multiplies
// these, so that here they cost time and only tell what a GPU computes.
#include "ops/quantise_rows.h"

#include <algorithm>
#include <limits>

#include "base/float8_row.h"
#include "ops/cpu/rows.h"

namespace tamias::cpu {
namespace {

template <typename T>
void Quantise(Context& context, ConstTensorView input, TensorView codes, TensorView scales) {
  const int64_t tokens = input.dim(1), width = input.dim(2);
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, width));
  ParallelForRanges(context, input.dim(0) * tokens, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      const T* from =
          input.data<T>() + row / tokens * input.stride(0) + row % tokens * input.stride(1);
      Float8E4M3* to = codes.data<Float8E4M3>() + row * width;
      const std::optional<float> scale = QuantiseRow(from, width, to);
      if (!scale) std::fill_n(to, width, Float8E4M3{0});
      scales.data<float>()[row] = scale.value_or(std::numeric_limits<float>::quiet_NaN());
    }
  });
}

}  // namespace

void QuantiseRows(Context& context, ConstTensorView input, TensorView codes, TensorView scales) {
  const auto quantise = input.dtype() == DType::kF32   ? &Quantise<float>
                        : input.dtype() == DType::kF16 ? &Quantise<Float16>
                                                       : &Quantise<BFloat16>;
  quantise(context, input, codes, scales);
}

}  // namespace tamias::cpu
