// Element-wise arithmetic at memory bandwidth: runs of elements on all threads, SIMD within a run.
#include "ops/elementwise.h"

#include <cstring>

#include "ops/cpu/rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/elementwise.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

using cpu::ConstElements;
using cpu::Elements;

// output[i] = operation(d, a[i], b[i]), i < count.
template <class Operation>
HWY_INLINE void Combine(ConstElements a, ConstElements b, Elements output, size_t count,
                        const Operation& operation) {
  lanes::WithElements(
      [&](const auto* from_a, const auto* from_b, auto* to) HWY_ATTR {
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          lanes::StoreNarrowed(
              operation(lanes::LoadWidened(d, from_a + i), lanes::LoadWidened(d, from_b + i)), d,
              to + i);
        });
      },
      a, b, output);
}

void AddRun(ConstElements a, ConstElements b, Elements output, size_t count) {
  Combine(a, b, output, count, [](auto x, auto y) HWY_ATTR { return hn::Add(x, y); });
}

void MultiplyRun(ConstElements a, ConstElements b, Elements output, size_t count) {
  Combine(a, b, output, count, [](auto x, auto y) HWY_ATTR { return hn::Mul(x, y); });
}

void AbsoluteDifferenceRun(ConstElements a, ConstElements b, Elements output, size_t count) {
  Combine(a, b, output, count, [](auto x, auto y) HWY_ATTR { return hn::AbsDiff(x, y); });
}

void AxpyRun(float factor, ConstElements x, Elements y, size_t count) {
  lanes::WithElements(
      [&](const auto* from, auto* to) HWY_ATTR {
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          lanes::StoreNarrowed(hn::MulAdd(hn::Set(d, factor), lanes::LoadWidened(d, from + i),
                                          lanes::LoadWidened(d, to + i)),
                               d, to + i);
        });
      },
      x, y);
}

void ScaleShiftRun(ConstElements input, float factor, float offset, Elements output, size_t count) {
  lanes::WithElements(
      [&](const auto* from, auto* to) HWY_ATTR {
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          lanes::StoreNarrowed(
              hn::MulAdd(hn::Set(d, factor), lanes::LoadWidened(d, from + i), hn::Set(d, offset)),
              d, to + i);
        });
      },
      input, output);
}

template <typename From>
HWY_INLINE void ConvertFrom(const From* from, Elements output, size_t count) {
  lanes::WithElements(
      [&](auto* to) HWY_ATTR {
        lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
          lanes::StoreNarrowed(lanes::LoadWidened(d, from + i), d, to + i);
        });
      },
      output);
}

void ConvertRun(ConstElements input, Elements output, size_t count) {
  lanes::WithElements([&](const auto* from) HWY_ATTR { ConvertFrom(from, output, count); }, input);
}

void Float16Run(const Float16* input, Elements output, size_t count) {
  ConvertFrom(reinterpret_cast<const hwy::float16_t*>(input), output, count);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(AddRun);
HWY_EXPORT(MultiplyRun);
HWY_EXPORT(AbsoluteDifferenceRun);
HWY_EXPORT(AxpyRun);
HWY_EXPORT(ScaleShiftRun);
HWY_EXPORT(ConvertRun);
HWY_EXPORT(Float16Run);

namespace cpu {

void Add(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachRun<3>(context, {&a, &b, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(AddRun)
    (ElementsAt(a, at[0]), ElementsAt(b, at[1]), ElementsAt(output, at[2]), count);
  });
}

void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachRun<3>(context, {&a, &b, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(MultiplyRun)
    (ElementsAt(a, at[0]), ElementsAt(b, at[1]), ElementsAt(output, at[2]), count);
  });
}

void AbsoluteDifference(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachRun<3>(context, {&a, &b, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(AbsoluteDifferenceRun)
    (ElementsAt(a, at[0]), ElementsAt(b, at[1]), ElementsAt(output, at[2]), count);
  });
}

void Axpy(Context& context, float factor, ConstTensorView x, TensorView y) {
  ForEachRun<2>(context, {&x, &y}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(AxpyRun)
    (factor, ElementsAt(x, at[0]), ElementsAt(y, at[1]), count);
  });
}

void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output) {
  ForEachRun<2>(context, {&input, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(ScaleShiftRun)
    (ElementsAt(input, at[0]), factor, offset, ElementsAt(output, at[1]), count);
  });
}

void Convert(Context& context, ConstTensorView input, TensorView output) {
  const size_t size = SizeOf(output.dtype());
  ForEachRun<2>(context, {&input, &output}, [&](const auto& at, size_t count) {
    const Elements to = ElementsAt(output, at[1]);
    if (input.dtype() == output.dtype()) {
      std::memcpy(to.data, ElementsAt(input, at[0]).data, count * size);
    } else if (input.dtype() == DType::kF16) {
      HWY_DYNAMIC_DISPATCH(Float16Run)(input.data<Float16>() + at[0], to, count);
    } else {
      HWY_DYNAMIC_DISPATCH(ConvertRun)(ElementsAt(input, at[0]), to, count);
    }
  });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
