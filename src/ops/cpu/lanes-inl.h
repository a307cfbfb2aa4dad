// Loops over the elements of a row in SIMD vectors, the remainder one by one, so that nothing past
// the end is read. Highway target code; include it after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_LANES_INL_H_
#undef TAMIAS_OPS_CPU_LANES_INL_H_
#else
#define TAMIAS_OPS_CPU_LANES_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace lanes {
namespace hn = hwy::HWY_NAMESPACE;

// body(tag, i) for vectors at i = 0, Lanes, ... and then, with a tag of one lane, for each element
// that is left.
template <class Body>
HWY_INLINE void ForEach(size_t count, const Body& body) {
  const hn::ScalableTag<float> d;
  const size_t step = hn::Lanes(d);
  size_t i = 0;
  for (; i + step <= count; i += step) body(d, i);
  const hn::CappedTag<float, 1> one;
  for (; i < count; ++i) body(one, i);
}

// The sum of body(tag, i) over all elements, in four interleaved partial sums.
template <class Body>
HWY_INLINE float Sum(size_t count, const Body& body) {
  const hn::ScalableTag<float> d;
  const size_t step = hn::Lanes(d);
  auto sum0 = hn::Zero(d), sum1 = hn::Zero(d), sum2 = hn::Zero(d), sum3 = hn::Zero(d);
  size_t i = 0;
  for (; i + 4 * step <= count; i += 4 * step) {
    sum0 = hn::Add(sum0, body(d, i));
    sum1 = hn::Add(sum1, body(d, i + step));
    sum2 = hn::Add(sum2, body(d, i + 2 * step));
    sum3 = hn::Add(sum3, body(d, i + 3 * step));
  }
  for (; i + step <= count; i += step) sum0 = hn::Add(sum0, body(d, i));
  const hn::CappedTag<float, 1> one;
  float rest = 0;
  for (; i < count; ++i) rest += hn::GetLane(body(one, i));
  const auto sum = hn::Add(hn::Add(sum0, sum1), hn::Add(sum2, sum3));
  return hn::GetLane(hn::SumOfLanes(d, sum)) + rest;
}

}  // namespace lanes
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_LANES_INL_H_
