// Activations, in place: rows of the last axis in parallel, one contiguous run when there are no
// gaps between rows.
#include "ops/activation.h"

#include "base/parallel.h"
#include "ops/cpu/elements.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/activation.cc"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "ops/cpu/activation-inl.h"
#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {

void ActivateRange(Activation kind, cpu::Elements values, int64_t count) {
  activation::WithActivation(kind, [&](auto constant) HWY_ATTR {
    constexpr Activation kActivation = decltype(constant)::value;
    if (values.dtype == DType::kF32) {
      return activation::ApplyRange<kActivation>(values.As<float>(), count);
    }
    auto* halves = values.As<hwy::bfloat16_t>();
    lanes::ForEach(static_cast<size_t>(count), [&](auto d, size_t i) HWY_ATTR {
      const auto value = activation::Apply<kActivation>(d, lanes::LoadWidened(d, halves + i));
      lanes::StoreNarrowed(value, d, halves + i);
    });
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias::cpu {
namespace {

HWY_EXPORT(ActivateRange);

// The offset of the first element of a row, rows counted in row-major order.
int64_t RowOffset(const TensorView& values, int64_t row) {
  int64_t offset = 0;
  for (int axis = values.rank() - 2; axis >= 0; --axis) {
    offset += row % values.dim(axis) * values.stride(axis);
    row /= values.dim(axis);
  }
  return offset;
}

}  // namespace

void Activate(Context& context, Activation activation, TensorView values) {
  const int64_t elements = values.NumElements();
  if (elements == 0 || activation == Activation::kNone) return;
  constexpr int64_t kElementsPerTask = 16384;  // some 10 us
  if (values.IsContiguous()) {
    ParallelForRanges(context, elements, kElementsPerTask, [&](int64_t begin, int64_t end, int) {
      HWY_DYNAMIC_DISPATCH(ActivateRange)
      (activation, ElementsAt(values, begin), end - begin);
    });
    return;
  }
  const int64_t columns = values.dim(-1);
  const int64_t rows_per_task = std::max<int64_t>(1, kElementsPerTask / columns);
  ParallelForRanges(context, elements / columns, rows_per_task,
                    [&](int64_t begin, int64_t end, int) {
                      for (int64_t row = begin; row < end; ++row) {
                        HWY_DYNAMIC_DISPATCH(ActivateRange)
                        (activation, ElementsAt(values, RowOffset(values, row)), columns);
                      }
                    });
}

}  // namespace tamias::cpu
#endif  // HWY_ONCE
