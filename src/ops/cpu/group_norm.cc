// Group norm of channels-last pictures. A picture is one long run of values whose channel repeats
// with period C. Constants per channel are laid out as a pattern whose length is a multiple of both
// C and the vector length, so that any channel count runs in whole vectors.
#include <array>
#include <cmath>
#include <numeric>

#include "base/parallel.h"
#include "ops/cpu/elements.h"
#include "ops/cpu/rows.h"
#include "ops/cpu/widen.h"
#include "ops/norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/group_norm.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "ops/cpu/activation-inl.h"
#include "ops/cpu/widen-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

// At most this many lanes, so that the pattern length is known without knowing the target.
using PatternTag = hn::CappedTag<float, 16>;

// sum[i] += x - pivot[i] and square[i] += (x - pivot[i])^2 over `periods` repeats of the pattern.
void AccumulatePattern(cpu::ConstElements elements, int64_t periods, size_t pattern,
                       const float* pivot, float* sum, float* square) {
  const auto accumulate = [&](const auto* x) HWY_ATTR {
    const PatternTag d;
    for (int64_t p = 0; p < periods; ++p, x += pattern) {
      for (size_t i = 0; i < pattern; i += hn::Lanes(d)) {
        const auto v = hn::Sub(lanes::LoadWidened(d, x + i), hn::Load(d, pivot + i));
        hn::Store(hn::Add(hn::Load(d, sum + i), v), d, sum + i);
        hn::Store(hn::MulAdd(v, v, hn::Load(d, square + i)), d, square + i);
      }
    }
  };
  lanes::WithElements(accumulate, elements);
}

template <bool kSilu, class D, typename From, typename To>
HWY_INLINE void ScaleShiftVector(D d, const From* input, const float* gain, const float* offset,
                                 To* output) {
  auto v = hn::MulAdd(lanes::LoadWidened(d, input), hn::LoadU(d, gain), hn::LoadU(d, offset));
  if (kSilu) v = activation::Apply<Activation::kSilu>(d, v);
  lanes::StoreNarrowed(v, d, output);
}

template <bool kSilu, typename From, typename To>
HWY_INLINE void ScaleShiftRun(const From* input, int64_t count, size_t pattern, const float* gain,
                              const float* offset, To* output) {
  const PatternTag d;
  const auto period = static_cast<int64_t>(pattern);
  int64_t begin = 0;
  for (; begin + period <= count; begin += period) {
    for (size_t i = 0; i < pattern; i += hn::Lanes(d)) {
      ScaleShiftVector<kSilu>(d, input + begin + i, gain + i, offset + i, output + begin + i);
    }
  }
  const hn::CappedTag<float, 1> one;
  for (int64_t i = 0; begin + i < count; ++i) {
    ScaleShiftVector<kSilu>(one, input + begin + i, gain + i, offset + i, output + begin + i);
  }
}

// output = f(gain * input + offset) over `count` values from the start of a pattern.
void ScaleShiftPattern(cpu::ConstElements input, int64_t count, size_t pattern, const float* gain,
                       const float* offset, bool silu, cpu::Elements output) {
  lanes::WithElements(
      [&](const auto* from, auto* to) HWY_ATTR {
        if (silu) {
          ScaleShiftRun<true>(from, count, pattern, gain, offset, to);
        } else {
          ScaleShiftRun<false>(from, count, pattern, gain, offset, to);
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
HWY_EXPORT(AccumulatePattern);
HWY_EXPORT(ScaleShiftPattern);

namespace cpu {
namespace {

// Partial sums in fp32 are moved to double precision after this many terms.
constexpr int64_t kTermsPerFlush = 64;

// The repeats of C channels that fill whole vectors of up to 16 lanes.
int64_t PatternRepeats(int64_t channels) { return 16 / std::gcd(channels, int64_t{16}); }

TensorView Repeat(Context& context, const float* values, int64_t channels, int64_t repeats) {
  const TensorView pattern = context.workspace().Allocate({repeats * channels}, DType::kF32);
  if (context.IsPlanning()) return pattern;
  for (int64_t r = 0; r < repeats; ++r) {
    std::copy_n(values, channels, pattern.data<float>() + r * channels);
  }
  return pattern;
}

// Sums over pixels [begin, end) of one picture [pixels, C]. partial: two rows of a pattern of
// scratch; totals: two rows of C, sums of (x - pivot) and of its square.
void SumPixels(const ConstTensorView& pixels, int64_t begin, int64_t end, const TensorView& pivot,
               float* partial, double* totals) {
  const int64_t channels = pixels.dim(1);
  const int64_t pattern = pivot.dim(0), repeats = pattern / channels;
  float* square = partial + pattern;
  for (int64_t pixel = begin; pixel < end;) {
    // Whole patterns while there are any, then pixel by pixel (the pattern's first repeat).
    const int64_t periods = std::min((end - pixel) / repeats, kTermsPerFlush);
    std::fill_n(partial, 2 * pattern, 0.0f);
    if (periods > 0) {
      HWY_DYNAMIC_DISPATCH(AccumulatePattern)
      (ElementsAt(pixels, pixel * channels), periods, static_cast<size_t>(pattern),
       pivot.data<float>(), partial, square);
      pixel += periods * repeats;
    } else {
      WithElementType(pixels.dtype(), [&](auto element) {
        const auto* values = pixels.data<decltype(element)>() + pixel * channels;
        for (int64_t c = 0; c < channels; ++c) {
          const float v = ToFloat(values[c]) - pivot.data<float>()[c];
          partial[c] = v;
          square[c] = v * v;
        }
      });
      ++pixel;
    }
    for (int64_t i = 0, c = 0; i < pattern; ++i, c = c + 1 == channels ? 0 : c + 1) {
      totals[c] += double{partial[i]};
      totals[channels + c] += double{square[i]};
    }
  }
}

// Gain and offset of one picture from its sums (already added up over threads).
void FromSums(const double* totals, const float* pivot, int64_t pixels, int64_t channels,
              int64_t groups, const float* weight, const float* bias, float epsilon, float* gain,
              float* offset) {
  const int64_t width = channels / groups;
  const auto count = static_cast<double>(pixels * width);
  for (int64_t g = 0; g < groups; ++g) {
    double mean = 0, square = 0;
    for (int64_t c = g * width; c < (g + 1) * width; ++c) {
      mean += (totals[c] + double{pivot[c]} * static_cast<double>(pixels)) / count;
    }
    for (int64_t c = g * width; c < (g + 1) * width; ++c) {
      // sum (x - mean)^2 = sum (x - pivot)^2 + 2 (pivot - mean) sum (x - pivot) + n (pivot -
      // mean)^2
      const double shift = double{pivot[c]} - mean;
      square += totals[channels + c] + 2 * shift * totals[c] +
                static_cast<double>(pixels) * shift * shift;
    }
    const double inverse = 1 / std::sqrt(std::max(square / count, 0.0) + double{epsilon});
    for (int64_t c = g * width; c < (g + 1) * width; ++c) {
      gain[c] = static_cast<float>(inverse * double{weight[c]});
      offset[c] = static_cast<float>(double{bias[c]} - mean * inverse * double{weight[c]});
    }
  }
}

}  // namespace

void GroupNormStatistics(Context& context, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView gain, TensorView offset) {
  Workspace::Scope scope(context.workspace());
  const int64_t pixels = input.dim(1) * input.dim(2), channels = input.dim(3);
  if (pixels == 0 || channels == 0) return;
  const int64_t pattern = PatternRepeats(channels) * channels, threads = context.threads();
  const float* weights = WidenedDataOr(context, weight, channels, 1);
  const float* biases = WidenedDataOr(context, bias, channels, 0);
  const TensorView partial = context.workspace().Allocate({threads, 2 * pattern}, DType::kF32);
  double* totals = static_cast<double*>(
      context.workspace().Allocate({threads, 2 * channels}, DType::kI64).raw());
  for (int64_t b = 0; b < input.dim(0); ++b) {
    Workspace::Scope picture_scope(context.workspace());
    const ConstTensorView picture = input.Select(0, b).Reshape({pixels, channels});
    // The first pixel as pivot: sums of squares do not cancel when the mean is far from zero.
    const float* first = WidenedData(context, picture.Select(0, 0));
    const TensorView pivot = Repeat(context, first, channels, pattern / channels);
    if (context.IsPlanning()) return;
    std::fill_n(totals, threads * 2 * channels, 0.0);
    ParallelForRanges(context, pixels, std::max<int64_t>(1, kElementsPerTask / channels),
                      [&](int64_t begin, int64_t end, int thread) {
                        SumPixels(picture, begin, end, pivot,
                                  partial.data<float>() + thread * 2 * pattern,
                                  totals + thread * 2 * channels);
                      });
    for (int64_t i = 2 * channels; i < threads * 2 * channels; ++i) {
      totals[i % (2 * channels)] += totals[i];
    }
    FromSums(totals, pivot.data<float>(), pixels, channels, groups, weights, biases, epsilon,
             gain.data<float>() + b * channels, offset.data<float>() + b * channels);
  }
}

void ScaleShiftChannels(Context& context, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output) {
  const int64_t pixels = input.dim(1) * input.dim(2), channels = input.dim(3);
  if (pixels == 0 || channels == 0) return;
  const int64_t repeats = PatternRepeats(channels);
  for (int64_t b = 0; b < input.dim(0); ++b) {
    Workspace::Scope scope(context.workspace());
    const TensorView gains = Repeat(context, gain.data<float>() + b * channels, channels, repeats);
    const TensorView offsets =
        Repeat(context, offset.data<float>() + b * channels, channels, repeats);
    if (context.IsPlanning()) return;
    const ConstTensorView from = input.Select(0, b);
    const TensorView to = output.Select(0, b);
    // Rows that follow each other in memory run as one.
    const bool is_one_run = from.IsContiguous() && to.IsContiguous();
    const int64_t width = is_one_run ? pixels : input.dim(2);
    ParallelForRanges(context, pixels, std::max<int64_t>(1, kElementsPerTask / channels),
                      [&](int64_t begin, int64_t end, int) {
                        while (begin < end) {
                          const int64_t row = begin / width;
                          const int64_t stop = std::min(end, (row + 1) * width);
                          const int64_t first = (begin - row * width) * channels;
                          HWY_DYNAMIC_DISPATCH(ScaleShiftPattern)
                          (ElementsAt(from, row * from.stride(0) + first),
                           (stop - begin) * channels, static_cast<size_t>(repeats * channels),
                           gains.data<float>(), offsets.data<float>(), silu,
                           ElementsAt(to, row * to.stride(0) + first));
                          begin = stop;
                        }
                      });
  }
}

}  // namespace cpu

}  // namespace tamias
#endif  // HWY_ONCE
