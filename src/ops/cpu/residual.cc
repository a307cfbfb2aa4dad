// The gated residual at memory bandwidth: rows on all threads, SIMD within a row.
#include "ops/residual.h"

#include "ops/cpu/rows.h"

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

void GatedResidual(Context& context, TensorView x, ConstTensorView gate, ConstTensorView y) {
  // The gate has the rows' shape when its token axis has stride 0.
  const ConstTensorView gates(gate.raw(), gate.dtype(), x.shape(), {gate.stride(0), 0, 1});
  ForEachRow<3>(context, {&x, &gates, &y}, [&](const auto& at) {
    HWY_DYNAMIC_DISPATCH(GatedResidualRow)
    (ElementsAt(x, at[0]), ElementsAt(gates, at[1]), ElementsAt(y, at[2]),
     static_cast<size_t>(x.dim(2)));
  });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
