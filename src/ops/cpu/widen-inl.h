// Vectors of fp32 read from f32, f16 or bf16 memory and written to f32 or bf16. Highway target
// code; include it after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_WIDEN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_WIDEN_INL_H_
#undef TAMIAS_OPS_CPU_WIDEN_INL_H_
#else
#define TAMIAS_OPS_CPU_WIDEN_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "ops/cpu/elements.h"
#include "tamias/dtype.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace lanes {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const float* from) {
  return hn::LoadU(d, from);
}

template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const hwy::bfloat16_t* from) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::bfloat16_t, D>(), from));
}

template <class D>
HWY_INLINE hn::Vec<D> LoadWidened(D d, const hwy::float16_t* from) {
#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  // Without the conversion instruction: Highway's own loses infinity and NaN here. Exponent and
  // mantissa move into place and 2^112 makes up for the difference of the biases, exactly so for
  // subnormal numbers too; the largest exponent stays the largest.
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> du16;
  const auto bits = hn::PromoteTo(du, hn::LoadU(du16, reinterpret_cast<const uint16_t*>(from)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(du, 0x7FFFu)));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000u)));
  const auto scaled = hn::BitCast(du, hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f)));
  const auto special =
      hn::Eq(hn::And(magnitude, hn::Set(du, 0x0F800000u)), hn::Set(du, 0x0F800000u));
  const auto infinite = hn::Or(magnitude, hn::Set(du, 0x7F800000u));
  return hn::BitCast(d, hn::Or(sign, hn::IfThenElse(special, infinite, scaled)));
#else
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<hwy::float16_t, D>(), from));
#endif
}

template <class D>
HWY_INLINE void StoreNarrowed(hn::Vec<D> vector, D d, float* to) {
  hn::StoreU(vector, d, to);
}

// The bits in bf16, rounded to nearest, ties to even; NaN stays NaN.
template <class D>
HWY_INLINE hn::Vec<hn::Rebind<uint16_t, D>> NarrowedBits(D /*d*/, hn::Vec<D> vector) {
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const auto raw = hn::BitCast(du, vector);
  const auto odd = hn::And(hn::ShiftRight<16>(raw), hn::Set(du, 1));
  const auto rounded = hn::Add(raw, hn::Add(odd, hn::Set(du, 0x7FFF)));
  const auto quiet = hn::Or(raw, hn::Set(du, 0x400000));
  const auto nan = hn::RebindMask(du, hn::IsNaN(vector));
  const auto high = hn::ShiftRight<16>(hn::IfThenElse(nan, quiet, rounded));
  return hn::DemoteTo(hn::Rebind<uint16_t, D>(), hn::BitCast(di, high));
}

template <class D>
HWY_INLINE void StoreNarrowed(hn::Vec<D> vector, D d, hwy::bfloat16_t* to) {
  hn::StoreU(NarrowedBits(d, vector), hn::Rebind<uint16_t, D>(), reinterpret_cast<uint16_t*>(to));
}

// body(pointers...) of Elements and ConstElements, each to the type that its elements have: float
// or hwy::bfloat16_t.
template <class Body>
HWY_INLINE void WithElements(const Body& body) {
  body();
}

template <class Body, class First, class... Rest>
HWY_INLINE void WithElements(const Body& body, First first, Rest... rest) {
  const auto with = [&](auto* elements) HWY_ATTR {
    WithElements([&](auto*... others) HWY_ATTR { body(elements, others...); }, rest...);
  };
  if (first.dtype == DType::kBF16) {
    with(first.template As<hwy::bfloat16_t>());
  } else {
    with(first.template As<float>());
  }
}

}  // namespace lanes
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_WIDEN_INL_H_
