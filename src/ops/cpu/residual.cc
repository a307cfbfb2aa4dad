// The gated residual at memory bandwidth: rows on all threads, SIMD within a row. A row that is
// normed, too, is still in the first-level cache.
#include "ops/residual.h"

#include "ops/cpu/norm_rows.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/widen.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/residual.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

void GatedResidualRow(cpu::Elements x, cpu::ConstElements gate, cpu::ConstElements y,
                      size_t count) {
  lanes::WithElements(
      [&](auto* to, const auto* gates, const auto* from) HWY_ATTR {
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          lanes::StoreNarrowed(
              hn::MulAdd(lanes::LoadWidened(d, gates + i), lanes::LoadWidened(d, from + i),
                         lanes::LoadWidened(d, to + i)),
              d, to + i);
        });
      },
      x, gate, y);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(GatedResidualRow);

namespace cpu {
namespace {

// Coefficients [B, d] or [d] in the shape of the rows: of all tokens alike.
ConstTensorView ForRows(const ConstTensorView& view, const Shape& rows) {
  const int64_t stride = view.rank() == 2 ? view.stride(0) : 0;
  return ConstTensorView(view.raw(), view.dtype(), rows, {stride, 0, 1});
}

// In fp32, in the shape of the rows; where there are none, `otherwise`.
ConstTensorView WideForRows(Context& context, const ConstTensorView& view, const Shape& rows,
                            float otherwise) {
  if (!view.empty()) return ForRows(Widened(context, view), rows);
  const float* all_alike = WidenedDataOr(context, {}, rows[2], otherwise);
  return ConstTensorView(all_alike, DType::kF32, rows, {0, 0, 1});
}

// 1 + scale.
ConstTensorView GainOf(Context& context, const ConstTensorView& scale) {
  const TensorView gain = context.workspace().Allocate(scale.shape(), DType::kF32);
  if (!context.IsPlanning()) cpu::ScaleShift(context, scale, 1, 1, gain);
  return gain;
}

}  // namespace

void ResidualNorm(Context& context, const ResidualRows& rows, const ResidualNormOptions& options) {
  Workspace::Scope scope(context.workspace());
  const Shape& shape = rows.x.shape();
  const bool adds = !rows.branch.empty(), norms = !rows.output.empty();
  const ConstTensorView gains = norms && options.is_modulation
                                    ? ForRows(GainOf(context, rows.gain), shape)
                                    : WideForRows(context, rows.gain, shape, 1);
  const ConstTensorView offsets = WideForRows(context, rows.offset, shape, 0);
  const float* ones = WidenedDataOr(context, {}, shape[2], 1);
  if (context.IsPlanning()) return;
  const auto width = static_cast<size_t>(shape[2]);
  // What is not there is not looked at: x stands in its place.
  const ConstTensorView gates = ForRows(adds ? rows.gate : ConstTensorView(rows.x), shape);
  const TensorView branch = adds ? rows.branch : rows.x, output = norms ? rows.output : rows.x;
  ForEachRow<6>(
      context, {&rows.x, &gates, &branch, &gains, &offsets, &output}, [&](const auto& at) {
        if (adds) {
          if (options.norms_branch) {
            RmsNormRow(ElementsAt(static_cast<const ConstTensorView&>(branch), at[2]), width,
                       options.epsilon, ones, ElementsAt(branch, at[2]));
          }
          HWY_DYNAMIC_DISPATCH(GatedResidualRow)
          (ElementsAt(rows.x, at[0]), ElementsAt(gates, at[1]),
           ElementsAt(static_cast<const ConstTensorView&>(branch), at[2]), width);
        }
        if (!norms) return;
        const ConstElements x = ElementsAt(static_cast<const ConstTensorView&>(rows.x), at[0]);
        if (options.norm == NormKind::kLayer) {
          LayerNormRow(x, width, options.epsilon, gains.data<float>() + at[3],
                       offsets.data<float>() + at[4], ElementsAt(output, at[5]));
        } else {
          RmsNormRow(x, width, options.epsilon, gains.data<float>() + at[3],
                     ElementsAt(output, at[5]));
        }
      });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
