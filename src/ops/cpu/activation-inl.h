// Vectors of activations in fp32. GELU-tanh, SiLU and quick-GELU are all x sigmoid(z), with z a
// polynomial of x: 1/2 (1 + tanh(u)) = sigmoid(2u). The exponential is 2^n times a polynomial of
// degree 6 (relative error 2e-8 before rounding); erfc is Abramowitz and Stegun 7.1.26 (absolute
// error 1.5e-7). Highway target code: include it after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_ACTIVATION_INL_H_
#undef TAMIAS_OPS_CPU_ACTIVATION_INL_H_
#else
#define TAMIAS_OPS_CPU_ACTIVATION_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "ops/activation.h"
#include "ops/cpu/tail-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace activation {
namespace hn = hwy::HWY_NAMESPACE;

// exp(x), for x clamped to [-87, 87]: never 0, infinite or NaN.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ClampedExp(D d, V x) {
  const hn::RebindToSigned<D> di;
  x = hn::Min(hn::Max(x, hn::Set(d, -87.0f)), hn::Set(d, 87.0f));
  const V log2_e = hn::Set(d, 1.44269504f);
  const auto exponent = hn::NearestInt(hn::Mul(x, log2_e));
  const V fraction = hn::MulSub(x, log2_e, hn::ConvertTo(d, exponent));
  V power = hn::Set(d, 1.5403530e-4f);  // the Taylor terms ln(2)^n / n! of 2^fraction
  power = hn::MulAdd(power, fraction, hn::Set(d, 1.3333558e-3f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 9.6181291e-3f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 5.5504109e-2f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 2.4022651e-1f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 6.9314718e-1f));
  power = hn::MulAdd(power, fraction, hn::Set(d, 1.0f));
  const auto scale = hn::ShiftLeft<23>(hn::Add(exponent, hn::Set(di, 127)));
  return hn::Mul(power, hn::BitCast(d, scale));
}

// 1 / x for finite x >= 1. On x86 an estimate of 12 or 14 bits and one Newton step beat a division.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Reciprocal(D d, V x) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
  const V estimate = hn::ApproximateReciprocal(x);
  return hn::Mul(estimate, hn::NegMulAdd(x, estimate, hn::Set(d, 2.0f)));
#else
  return hn::Div(hn::Set(d, 1.0f), x);
#endif
}

// 1 / (1 + exp(-z)).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V z) {
  return Reciprocal(d, hn::Add(ClampedExp(d, hn::Neg(z)), hn::Set(d, 1.0f)));
}

// x/2 erfc(-x / sqrt(2)).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V GeluErf(D d, V x) {
  const V z = hn::Mul(hn::Abs(x), hn::Set(d, 0.70710678f));
  const V t = Reciprocal(
      d, hn::MulAdd(hn::Min(z, hn::Set(d, 1e9f)), hn::Set(d, 0.3275911f), hn::Set(d, 1.0f)));
  V tail = hn::Set(d, 1.061405429f);
  tail = hn::MulAdd(tail, t, hn::Set(d, -1.453152027f));
  tail = hn::MulAdd(tail, t, hn::Set(d, 1.421413741f));
  tail = hn::MulAdd(tail, t, hn::Set(d, -0.284496736f));
  tail = hn::MulAdd(tail, t, hn::Set(d, 0.254829592f));
  tail = hn::Mul(hn::Mul(tail, t), ClampedExp(d, hn::Neg(hn::Mul(z, z))));  // erfc(|x| / sqrt(2))
  const V half_tail = hn::Mul(tail, hn::Set(d, 0.5f));
  const V weight =
      hn::IfThenElse(hn::Lt(x, hn::Zero(d)), half_tail, hn::Sub(hn::Set(d, 1.0f), half_tail));
  return hn::Mul(x, weight);
}

template <Activation kActivation, class D, class V = hn::Vec<D>>
HWY_INLINE V Apply(D d, V x) {
  if constexpr (kActivation == Activation::kRelu) {
    return hn::IfThenZeroElse(hn::Lt(x, hn::Zero(d)), x);
  } else if constexpr (kActivation == Activation::kGeluTanh) {
    const V slope =
        hn::MulAdd(hn::Mul(x, x), hn::Set(d, 0.07135481283f), hn::Set(d, 1.5957691216f));
    return hn::Mul(x, Sigmoid(d, hn::Mul(x, slope)));
  } else if constexpr (kActivation == Activation::kGeluErf) {
    return GeluErf(d, x);
  } else if constexpr (kActivation == Activation::kSilu) {
    return hn::Mul(x, Sigmoid(d, x));
  } else if constexpr (kActivation == Activation::kQuickGelu) {
    return hn::Mul(x, Sigmoid(d, hn::Mul(x, hn::Set(d, 1.702f))));
  } else if constexpr (kActivation == Activation::kTanh) {
    return hn::Tanh(d, x);
  } else {
    return x;
  }
}

template <Activation kActivation>
struct Constant {
  static constexpr Activation value = kActivation;
};

// body(Constant<activation>): turns the run-time choice into a template argument, once per loop.
template <typename Body>
HWY_INLINE void WithActivation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kNone:
      return body(Constant<Activation::kNone>());
    case Activation::kRelu:
      return body(Constant<Activation::kRelu>());
    case Activation::kGeluTanh:
      return body(Constant<Activation::kGeluTanh>());
    case Activation::kGeluErf:
      return body(Constant<Activation::kGeluErf>());
    case Activation::kSilu:
      return body(Constant<Activation::kSilu>());
    case Activation::kQuickGelu:
      return body(Constant<Activation::kQuickGelu>());
    case Activation::kTanh:
      return body(Constant<Activation::kTanh>());
  }
}

// values[i] = act(values[i]), i < count.
template <Activation kActivation>
HWY_INLINE void ApplyRange(float* values, int64_t count) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(Apply<kActivation>(d, hn::LoadU(d, values + i)), d, values + i);
  }
  if (i < count) {
    const hn::Vec<decltype(d)> rest = tail::LoadFirst(d, values + i, count - i);
    tail::StoreFirst(Apply<kActivation>(d, rest), d, values + i, count - i);
  }
}

}  // namespace activation
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_ACTIVATION_INL_H_
