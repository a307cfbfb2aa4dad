// A matrix in 8-bit floats, its rows in parallel.
#include "io/quantise.h"

#include <algorithm>
#include <atomic>

#include "base/float8_row.h"
#include "base/parallel.h"

namespace tamias {
namespace {

// Whether all elements are finite.
template <typename T>
bool QuantiseRows(const Context& context, ConstTensorView weight, QuantisedMatrix& result) {
  const int64_t width = weight.dim(1);
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 16) / std::max<int64_t>(1, width));
  std::atomic<bool> is_finite{true};
  ParallelForRanges(context, weight.dim(0), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end && is_finite; ++n) {
      const std::optional<float> scale =
          QuantiseRow(weight.host_data<T>() + n * width, width,
                      result.codes.host_data<Float8E4M3>() + n * width);
      result.scales.host_data<float>()[n] = scale.value_or(0);
      if (!scale) is_finite = false;
    }
  });
  return is_finite;
}

}  // namespace

std::optional<QuantisedMatrix> Quantise(const Context& context, ConstTensorView weight) {
  QuantisedMatrix result{Tensor(weight.shape(), DType::kF8E4M3),
                         Tensor({weight.dim(0)}, DType::kF32)};
  const auto quantise = weight.dtype() == DType::kF32   ? &QuantiseRows<float>
                        : weight.dtype() == DType::kF16 ? &QuantiseRows<Float16>
                                                        : &QuantiseRows<BFloat16>;
  if (!quantise(context, weight, result)) return std::nullopt;
  return result;
}

}  // namespace tamias
