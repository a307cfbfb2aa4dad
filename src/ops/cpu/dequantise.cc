// A row of 8-bit floats at a time: their bits in a 16-bit float's places, whose bias is larger by
// 8, times 2^8 and the row's scale.
#include "ops/dequantise.h"

#include <algorithm>

#include "ops/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/dequantise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

void DequantiseRow(const Float8E4M3* codes, float scale, cpu::Elements output, size_t count) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(codes);
  lanes::WithElements(
      [&](auto* to) HWY_ATTR {
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          const hn::RebindToUnsigned<decltype(d)> du;
          const hn::Rebind<uint8_t, decltype(d)> du8;
          const auto bits = hn::PromoteTo(du, hn::LoadU(du8, bytes + i));
          // As in LoadWidened of 16-bit floats: exponent and mantissa in a float's places, where
          // 2^120 makes up for the difference of the biases, exactly so for subnormal numbers.
          const auto magnitude = hn::ShiftLeft<20>(hn::And(bits, hn::Set(du, 0x7Fu)));
          const auto sign = hn::ShiftLeft<24>(hn::And(bits, hn::Set(du, 0x80u)));
          const auto value = hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p120f));
          const auto scaled = hn::Mul(value, hn::Set(d, scale));
          lanes::StoreNarrowed(hn::BitCast(d, hn::Or(sign, hn::BitCast(du, scaled))), d, to + i);
        });
      },
      output);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(DequantiseRow);

namespace cpu {

void Dequantise(Context& context, ConstTensorView matrix, TensorView output) {
  const int64_t width = matrix.dim(1);
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, width));
  ParallelForRanges(context, matrix.dim(0), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      HWY_DYNAMIC_DISPATCH(DequantiseRow)
      (matrix.data<Float8E4M3>() + n * matrix.stride(0), matrix.row_scales()[n],
       ElementsAt(output, n * width), static_cast<size_t>(width));
    }
  });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
