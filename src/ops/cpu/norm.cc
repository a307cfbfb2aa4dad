// Row-wise normalisations: two passes over a row that stays in the first-level cache, so that the
// variance is centred and memory is read once. Rows on all threads, SIMD within a row.
#include "ops/norm.h"

#include "ops/cpu/norm_rows.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/widen.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// output = (x - mean) / sqrt(variance + epsilon) * gain + offset.
void LayerNormRow(cpu::ConstElements input, size_t count, float epsilon, const float* gain,
                  const float* offset, cpu::Elements output) {
  lanes::WithElements(
      [&](const auto* x, auto* to) HWY_ATTR {
        const float width = static_cast<float>(count);
        const float mean =
            lanes::Sum(count,
                       [&](auto d, size_t i) HWY_ATTR { return lanes::LoadWidened(d, x + i); }) /
            width;
        const float variance = lanes::Sum(count,
                                          [&](auto d, size_t i) HWY_ATTR {
                                            const auto centred = hn::Sub(
                                                lanes::LoadWidened(d, x + i), hn::Set(d, mean));
                                            return hn::Mul(centred, centred);
                                          }) /
                               width;
        const float inverse = 1.0f / std::sqrt(variance + epsilon);
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          const auto centred = hn::Sub(lanes::LoadWidened(d, x + i), hn::Set(d, mean));
          const auto slope = hn::Mul(hn::LoadU(d, gain + i), hn::Set(d, inverse));
          lanes::StoreNarrowed(hn::MulAdd(centred, slope, hn::LoadU(d, offset + i)), d, to + i);
        });
      },
      input, output);
}

// output = x / sqrt(mean(x^2) + epsilon) * gain.
void RmsNormRow(cpu::ConstElements input, size_t count, float epsilon, const float* gain,
                cpu::Elements output) {
  lanes::WithElements(
      [&](const auto* x, auto* to) HWY_ATTR {
        const float square = lanes::Sum(count, [&](auto d, size_t i) HWY_ATTR {
          const auto v = lanes::LoadWidened(d, x + i);
          return hn::Mul(v, v);
        });
        const float inverse = 1.0f / std::sqrt(square / static_cast<float>(count) + epsilon);
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          const auto slope = hn::Mul(hn::LoadU(d, gain + i), hn::Set(d, inverse));
          lanes::StoreNarrowed(hn::Mul(lanes::LoadWidened(d, x + i), slope), d, to + i);
        });
      },
      input, output);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(LayerNormRow);
HWY_EXPORT(RmsNormRow);

namespace cpu {

void LayerNormRow(ConstElements input, size_t count, float epsilon, const float* gain,
                  const float* offset, Elements output) {
  HWY_DYNAMIC_DISPATCH(LayerNormRow)(input, count, epsilon, gain, offset, output);
}

void RmsNormRow(ConstElements input, size_t count, float epsilon, const float* gain,
                Elements output) {
  HWY_DYNAMIC_DISPATCH(RmsNormRow)(input, count, epsilon, gain, output);
}

void LayerNorm(Context& context, ConstTensorView input, ConstTensorView weight,
               ConstTensorView bias, float epsilon, TensorView output) {
  Workspace::Scope scope(context.workspace());
  const int64_t width = input.dim(-1);
  const float* gain = WidenedDataOr(context, weight, width, 1);
  const float* offset = WidenedDataOr(context, bias, width, 0);
  if (context.IsPlanning()) return;
  ForEachRow<2>(context, {&input, &output}, [&](const auto& at) {
    LayerNormRow(ElementsAt(input, at[0]), static_cast<size_t>(width), epsilon, gain, offset,
                 ElementsAt(output, at[1]));
  });
}

void LayerNormModulate(Context& context, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output) {
  Workspace::Scope scope(context.workspace());
  const TensorView gain = context.workspace().Allocate(scale.shape(), DType::kF32);
  const ConstTensorView offset = Widened(context, shift);
  if (context.IsPlanning()) return;
  cpu::ScaleShift(context, scale, 1, 1, gain);
  // Shift and gain have the rows' shape when their token axis has stride 0.
  const ConstTensorView gains(gain.raw(), DType::kF32, input.shape(), {gain.stride(0), 0, 1});
  const ConstTensorView shifts(offset.raw(), DType::kF32, input.shape(), {offset.stride(0), 0, 1});
  ForEachRow<4>(context, {&input, &gains, &shifts, &output}, [&](const auto& at) {
    LayerNormRow(ElementsAt(input, at[0]), static_cast<size_t>(input.dim(2)), epsilon,
                 gains.data<float>() + at[1], shifts.data<float>() + at[2],
                 ElementsAt(output, at[3]));
  });
}

void RmsNorm(Context& context, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output) {
  Workspace::Scope scope(context.workspace());
  const int64_t width = input.dim(-1);
  const float* gain = WidenedDataOr(context, weight, width, 1);
  if (context.IsPlanning()) return;
  ForEachRow<2>(context, {&input, &output}, [&](const auto& at) {
    RmsNormRow(ElementsAt(input, at[0]), static_cast<size_t>(width), epsilon, gain,
               ElementsAt(output, at[1]));
  });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
