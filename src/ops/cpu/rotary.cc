// RMS norm and rotary embedding in one pass: blocks of tokens on all threads, all heads of a block
// one after the other, so that the block's angles, where the heads share them, are read from the
// first-level cache and the interleaved projection row is used while it is there.
#include "ops/rotary.h"

#include "base/parallel.h"
#include "ops/cpu/widen.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/rotary.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <cmath>

#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// The length that RMS norm divides by, as a factor; 1 without norm.
template <typename T>
HWY_INLINE float InverseRms(const T* x, size_t dim, float epsilon) {
  const float square = lanes::Sum(dim, [&](auto d, size_t i) HWY_ATTR {
    const auto v = lanes::LoadWidened(d, x + i);
    return hn::Mul(v, v);
  });
  return 1.0f / std::sqrt(square / static_cast<float>(dim) + epsilon);
}

// (x cos - partner sin) in even lanes, (x cos + partner sin) in odd ones.
template <typename From, typename To>
HWY_INLINE void RotateRow(const From* x, size_t dim, float factor, const float* weight,
                          const float* cosine, const float* sine, To* output) {
  size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::ScalableTag<float> d;
  for (; i + hn::Lanes(d) <= dim; i += hn::Lanes(d)) {
    auto v = hn::Mul(lanes::LoadWidened(d, x + i), hn::Set(d, factor));
    if (weight != nullptr) v = hn::Mul(v, hn::LoadU(d, weight + i));
    const auto turned = hn::Mul(hn::Shuffle2301(v), hn::LoadU(d, sine + i));
    const auto straight = hn::Mul(v, hn::LoadU(d, cosine + i));
    lanes::StoreNarrowed(hn::OddEven(hn::Add(straight, turned), hn::Sub(straight, turned)), d,
                         output + i);
  }
#endif
  const hn::CappedTag<float, 1> one;
  const auto load = [&](size_t j) HWY_ATTR {
    return hn::GetLane(lanes::LoadWidened(one, x + j)) * factor *
           (weight != nullptr ? weight[j] : 1.0f);
  };
  for (; i < dim; i += 2) {
    const float even = load(i);
    const float odd = load(i + 1);
    lanes::StoreNarrowed(hn::Set(one, even * cosine[i] - odd * sine[i]), one, output + i);
    lanes::StoreNarrowed(hn::Set(one, odd * cosine[i + 1] + even * sine[i + 1]), one,
                         output + i + 1);
  }
}

template <typename From, typename To>
HWY_INLINE void ScaleRow(const From* x, size_t dim, float factor, const float* weight, To* output) {
  lanes::ForEach(dim, [&](auto d, size_t i) HWY_ATTR {
    auto v = hn::Mul(lanes::LoadWidened(d, x + i), hn::Set(d, factor));
    if (weight != nullptr) v = hn::Mul(v, hn::LoadU(d, weight + i));
    lanes::StoreNarrowed(v, d, output + i);
  });
}

// One head of consecutive tokens; strides in elements.
void PrepareTokens(cpu::ConstElements input, int64_t input_stride, int64_t tokens, size_t dim,
                   const float* weight, float epsilon, const float* cosine, int64_t cosine_stride,
                   const float* sine, int64_t sine_stride, cpu::Elements output,
                   int64_t output_stride) {
  lanes::WithElements(
      [&](const auto* x, auto* y) HWY_ATTR {
        for (int64_t n = 0; n < tokens; ++n, x += input_stride, y += output_stride) {
          const float factor = weight != nullptr ? InverseRms(x, dim, epsilon) : 1.0f;
          if (cosine != nullptr) {
            RotateRow(x, dim, factor, weight, cosine + n * cosine_stride, sine + n * sine_stride,
                      y);
          } else {
            ScaleRow(x, dim, factor, weight, y);
          }
        }
      },
      input, output);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(PrepareTokens);

namespace cpu {
namespace {

// The angles of head h from token `begin` on; null: no rotation.
const float* Angles(const ConstTensorView& table, int64_t h, int64_t begin) {
  if (table.empty()) return nullptr;
  const ConstTensorView rows = table.rank() == 3 ? table.Select(0, h) : table;
  return rows.data<float>() + begin * rows.stride(0);
}

int64_t TokenStride(const ConstTensorView& table) { return table.empty() ? 0 : table.stride(-2); }

}  // namespace

void RmsNormRotary(Context& context, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output) {
  Workspace::Scope scope(context.workspace());
  const float* weight = WidenedData(context, norm_weight);
  const ConstTensorView cosines = Widened(context, cosine), sines = Widened(context, sine);
  if (context.IsPlanning()) return;
  const int64_t heads = input.dim(1), tokens = input.dim(2);
  constexpr int64_t kTokensPerBlock = 32;  // angles of 32 tokens x 128: 32 KB
  const int64_t blocks = (tokens + kTokensPerBlock - 1) / kTokensPerBlock;
  ParallelForRanges(context, input.dim(0) * blocks, 1, [&](int64_t first, int64_t last, int) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t b = task / blocks, begin = task % blocks * kTokensPerBlock;
      const int64_t count = std::min(kTokensPerBlock, tokens - begin);
      for (int64_t h = 0; h < heads; ++h) {
        HWY_DYNAMIC_DISPATCH(PrepareTokens)
        (ElementsAt(input, b * input.stride(0) + h * input.stride(1) + begin * input.stride(2)),
         input.stride(2), count, static_cast<size_t>(input.dim(3)), weight, epsilon,
         Angles(cosines, h, begin), TokenStride(cosines), Angles(sines, h, begin),
         TokenStride(sines),
         ElementsAt(output, b * output.stride(0) + h * output.stride(1) + begin * output.stride(2)),
         output.stride(2));
      }
    }
  });
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
