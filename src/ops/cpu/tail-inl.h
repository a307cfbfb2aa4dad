// Loads and stores of the first few lanes of a vector that touch no memory past them, at any
// alignment, on every instruction set (Highway's own may where the hardware has no masks).
// Highway target code: include it after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_TAIL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_TAIL_INL_H_
#undef TAMIAS_OPS_CPU_TAIL_INL_H_
#else
#define TAMIAS_OPS_CPU_TAIL_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace tail {
namespace hn = hwy::HWY_NAMESPACE;

// values[0 .. count) in the lowest lanes, 0 in the others; 0 <= count <= Lanes.
template <class D>
HWY_INLINE hn::Vec<D> LoadFirst(D d, const float* values, int64_t count) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(count)), d, values);
#else
  HWY_ALIGN float lanes[hn::MaxLanes(D())] = {};
  std::memcpy(lanes, values, static_cast<size_t>(count) * sizeof(float));
  return hn::Load(d, lanes);
#endif
}

// values[0 .. count) = the lowest lanes.
template <class D>
HWY_INLINE void StoreFirst(hn::Vec<D> vector, D d, float* values, int64_t count) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  hn::BlendedStore(vector, hn::FirstN(d, static_cast<size_t>(count)), d, values);
#else
  HWY_ALIGN float lanes[hn::MaxLanes(D())];
  hn::Store(vector, d, lanes);
  std::memcpy(values, lanes, static_cast<size_t>(count) * sizeof(float));
#endif
}

}  // namespace tail
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_TAIL_INL_H_
