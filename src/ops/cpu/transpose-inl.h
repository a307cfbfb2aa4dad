// Transposition of rows of tokens into lanes: destination[k][i] = source[i][k]. Blocks of 4 x 4
// inside the vectors, one vector of tokens at a time; either side f32 or bf16. Highway target code:
// include it after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_TRANSPOSE_INL_H_
#undef TAMIAS_OPS_CPU_TRANSPOSE_INL_H_
#else
#define TAMIAS_OPS_CPU_TRANSPOSE_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstdint>

#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace transpose {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR
// Four floats from each of the rows 0, 4, 8, ..., one after the other along the lanes.
template <class D, typename T>
HWY_INLINE hn::Vec<D> LoadEveryFourthRow(D d, const T* rows, int64_t stride) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    return lanes::LoadWidened(d, rows);
  } else {
    const hn::Half<D> half;
    const int64_t half_lanes = static_cast<int64_t>(hn::Lanes(half));
    return hn::Combine(d, LoadEveryFourthRow(half, rows + half_lanes * stride, stride),
                       LoadEveryFourthRow(half, rows, stride));
  }
}
#endif

template <typename From, typename To>
HWY_INLINE void CopyElement(const From* from, To* to) {
  const hn::CappedTag<float, 1> one;
  lanes::StoreNarrowed(lanes::LoadWidened(one, from), one, to);
}

// One vector of tokens: destination[k * destination_stride + i] = source[i * source_stride + k] for
// i < Lanes, k < depth.
template <typename From, typename To>
HWY_INLINE void TransposeLanes(const From* source, int64_t source_stride, int64_t depth,
                               To* destination, int64_t destination_stride) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t k = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<double> pairs;
  for (; k + 4 <= depth; k += 4) {
    const auto row0 = LoadEveryFourthRow(d, source + k, source_stride);
    const auto row1 = LoadEveryFourthRow(d, source + k + source_stride, source_stride);
    const auto row2 = LoadEveryFourthRow(d, source + k + 2 * source_stride, source_stride);
    const auto row3 = LoadEveryFourthRow(d, source + k + 3 * source_stride, source_stride);
    const auto low01 = hn::BitCast(pairs, hn::InterleaveLower(d, row0, row1));
    const auto low23 = hn::BitCast(pairs, hn::InterleaveLower(d, row2, row3));
    const auto high01 = hn::BitCast(pairs, hn::InterleaveUpper(d, row0, row1));
    const auto high23 = hn::BitCast(pairs, hn::InterleaveUpper(d, row2, row3));
    To* out = destination + k * destination_stride;
    lanes::StoreNarrowed(hn::BitCast(d, hn::InterleaveLower(pairs, low01, low23)), d, out);
    out += destination_stride;
    lanes::StoreNarrowed(hn::BitCast(d, hn::InterleaveUpper(pairs, low01, low23)), d, out);
    out += destination_stride;
    lanes::StoreNarrowed(hn::BitCast(d, hn::InterleaveLower(pairs, high01, high23)), d, out);
    out += destination_stride;
    lanes::StoreNarrowed(hn::BitCast(d, hn::InterleaveUpper(pairs, high01, high23)), d, out);
  }
#endif
  for (; k < depth; ++k) {
    for (int64_t i = 0; i < lanes; ++i) {
      CopyElement(source + i * source_stride + k, destination + k * destination_stride + i);
    }
  }
}

// destination[k * destination_stride + i] = source[i * source_stride + k] for i < tokens, k <
// depth, and 0 for tokens <= i < width. Of floats the bits are moved, whatever they stand for.
template <typename From, typename To>
HWY_INLINE void TransposeTokens(const From* source, int64_t source_stride, int64_t tokens,
                                int64_t width, int64_t depth, To* destination,
                                int64_t destination_stride) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  int64_t i = 0;
  for (; i + lanes <= tokens; i += lanes) {
    TransposeLanes(source + i * source_stride, source_stride, depth, destination + i,
                   destination_stride);
  }
  if (i >= width) return;
  for (int64_t k = 0; k < depth; ++k) {
    To* out = destination + k * destination_stride;
    for (int64_t j = i; j < std::min(tokens, width); ++j) {
      CopyElement(source + j * source_stride + k, out + j);
    }
    for (int64_t j = std::max(i, tokens); j < width; ++j) out[j] = To();
  }
}

}  // namespace transpose
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_TRANSPOSE_INL_H_
