// 2^x for SIMD vectors, in eleven instructions, for softmax. Highway target code; include it after
// foreach_target.h.
#if defined(TAMIAS_OPS_CPU_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_EXP2_INL_H_
#undef TAMIAS_OPS_CPU_EXP2_INL_H_
#else
#define TAMIAS_OPS_CPU_EXP2_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Adding it to |x| < 2^22 leaves round(x) in the low bits of the mantissa.
constexpr float kRoundingShift = 12582912.0f;  // 1.5 * 2^23

// Results below this power of two are raised to it, which keeps subnormal numbers (slow, and lost
// in any sum) out of the products that follow.
constexpr float kExp2Floor = -120.0f;

// 2^(s - bound), for integers `bound` with |bound| <= 2^20, given shift = kRoundingShift - bound
// and floor = kExp2Floor + bound. Subtracting the bound costs nothing: it is part of the rounding
// shift. Relative error < 2e-7 for floor <= s <= bound + 126; smaller s (and NaN on x86) give
// 2^floor. s - round(s) is in [-1/2, 1/2], where a polynomial of degree 5, minimax with 2^0 = 1
// exactly, stands for 2^x; the integer is added to the exponent.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V s, V shift, V floor) {
  const hn::RebindToSigned<D> di;
  s = hn::Max(s, floor);
  const V shifted = hn::Add(s, shift);
  const V fraction = hn::Sub(s, hn::Sub(shifted, shift));
  V power = hn::Set(d, 1.32647273e-3f);
  power = hn::MulAdd(power, fraction, hn::Set(d, 9.67151299e-3f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 5.55073358e-2f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 2.40222424e-1f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 6.93147004e-1f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, power), exponent));
}

// 2^x, clamped to [2^-120, 2^120].
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x) {
  x = hn::Min(x, hn::Set(d, -kExp2Floor));
  return Exp2(d, x, hn::Set(d, kRoundingShift), hn::Set(d, kExp2Floor));
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_EXP2_INL_H_
