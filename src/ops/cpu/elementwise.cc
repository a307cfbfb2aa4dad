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

void AddRun(const float* a, const float* b, float* output, size_t count) {
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::Add(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, output + i);
  });
}

void MultiplyRun(const float* a, const float* b, float* output, size_t count) {
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, output + i);
  });
}

void AbsoluteDifferenceRun(const float* a, const float* b, float* output, size_t count) {
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::AbsDiff(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, output + i);
  });
}

void AxpyRun(float factor, const float* x, float* y, size_t count) {
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(d, factor), hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, y + i);
  });
}

void ScaleShiftRun(const float* input, float factor, float offset, float* output, size_t count) {
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(hn::MulAdd(hn::Set(d, factor), hn::LoadU(d, input + i), hn::Set(d, offset)), d,
               output + i);
  });
}

template <typename Half>
HWY_INLINE void WidenRun(const Half* input, float* output, size_t count) {
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    hn::StoreU(lanes::LoadWidened(d, input + i), d, output + i);
  });
}

void Float16Run(const Float16* input, float* output, size_t count) {
  WidenRun(reinterpret_cast<const hwy::float16_t*>(input), output, count);
}

void BFloat16Run(const BFloat16* input, float* output, size_t count) {
  WidenRun(reinterpret_cast<const hwy::bfloat16_t*>(input), output, count);
}

void ToBFloat16Run(const float* input, BFloat16* output, size_t count) {
  auto* bits = reinterpret_cast<uint16_t*>(output);
  lanes::ForEach(count, [&](auto d, size_t i) HWY_ATTR {
    const hn::RebindToUnsigned<decltype(d)> du;
    const hn::RebindToSigned<decltype(d)> di;
    const auto value = hn::LoadU(d, input + i);
    const auto raw = hn::BitCast(du, value);
    const auto odd = hn::And(hn::ShiftRight<16>(raw), hn::Set(du, 1));
    const auto rounded = hn::Add(raw, hn::Add(odd, hn::Set(du, 0x7FFF)));
    const auto quiet = hn::Or(raw, hn::Set(du, 0x400000));
    const auto nan = hn::RebindMask(du, hn::IsNaN(value));
    const auto high = hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded));
    const hn::Rebind<uint16_t, decltype(d)> d16;
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, high)), d16, bits + i);
  });
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
HWY_EXPORT(Float16Run);
HWY_EXPORT(BFloat16Run);
HWY_EXPORT(ToBFloat16Run);

namespace cpu {

void Add(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachRun<3>(context, {&a, &b, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(AddRun)
    (a.data<float>() + at[0], b.data<float>() + at[1], output.data<float>() + at[2], count);
  });
}

void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachRun<3>(context, {&a, &b, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(MultiplyRun)
    (a.data<float>() + at[0], b.data<float>() + at[1], output.data<float>() + at[2], count);
  });
}

void AbsoluteDifference(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  ForEachRun<3>(context, {&a, &b, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(AbsoluteDifferenceRun)
    (a.data<float>() + at[0], b.data<float>() + at[1], output.data<float>() + at[2], count);
  });
}

void Axpy(Context& context, float factor, ConstTensorView x, TensorView y) {
  ForEachRun<2>(context, {&x, &y}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(AxpyRun)
    (factor, x.data<float>() + at[0], y.data<float>() + at[1], count);
  });
}

void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output) {
  ForEachRun<2>(context, {&input, &output}, [&](const auto& at, size_t count) {
    HWY_DYNAMIC_DISPATCH(ScaleShiftRun)
    (input.data<float>() + at[0], factor, offset, output.data<float>() + at[1], count);
  });
}

void Convert(Context& context, ConstTensorView input, TensorView output) {
  ForEachRun<2>(context, {&input, &output}, [&](const auto& at, size_t count) {
    if (output.dtype() == DType::kBF16) {
      HWY_DYNAMIC_DISPATCH(ToBFloat16Run)
      (input.data<float>() + at[0], output.data<BFloat16>() + at[1], count);
      return;
    }
    float* to = output.data<float>() + at[1];
    if (input.dtype() == DType::kF32) {
      std::memcpy(to, input.data<float>() + at[0], count * sizeof(float));
    } else if (input.dtype() == DType::kF16) {
      HWY_DYNAMIC_DISPATCH(Float16Run)(input.data<Float16>() + at[0], to, count);
    } else {
      HWY_DYNAMIC_DISPATCH(BFloat16Run)(input.data<BFloat16>() + at[0], to, count);
    }
  });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
