// The gated residual at memory bandwidth: rows on all threads, SIMD within a row.
#include "ops/residual.h"

#include "ops/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/residual.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

void GatedResidualRow(float* x, const float* gate, const float* y, size_t count) {
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::LoadU(d, gate + i), hn::LoadU(d, y + i), hn::LoadU(d, x + i)), d,
               x + i);
  });
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
  const ConstTensorView gates(gate.raw(), DType::kF32, x.shape(), {gate.stride(0), 0, 1});
  ForEachRow<3>(context, {&x, &gates, &y}, [&](const auto& at) {
    HWY_DYNAMIC_DISPATCH(GatedResidualRow)
    (x.data<float>() + at[0], gate.data<float>() + at[1], y.data<float>() + at[2],
     static_cast<size_t>(x.dim(2)));
  });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
