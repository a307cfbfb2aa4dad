// Normalisations in double precision, as they are written in the papers.
#include "ops/norm.h"

#include <cmath>

#include "ops/activation.h"
#include "ops/reference/elements.h"

namespace tamias::reference {
namespace {

struct Moments {
  double mean = 0;
  double variance = 0;
};

Moments RowMoments(const ConstTensorView& input, const Shape& row) {
  const auto width = static_cast<double>(input.dim(-1));
  Moments moments;
  for (int64_t c = 0; c < input.dim(-1); ++c) moments.mean += Get(input, With(row, c)) / width;
  for (int64_t c = 0; c < input.dim(-1); ++c) {
    moments.variance += std::pow(Get(input, With(row, c)) - moments.mean, 2) / width;
  }
  return moments;
}

// Over the pixels and the channels of one group of one picture.
Moments GroupMoments(const ConstTensorView& input, int64_t picture, int64_t begin, int64_t end) {
  const ConstTensorView group = input.Select(0, picture).Slice(2, begin, end);
  const auto count = static_cast<double>(group.NumElements());
  Moments moments;
  ForEachIndex(group.shape(), [&](const Shape& i) { moments.mean += Get(group, i) / count; });
  ForEachIndex(group.shape(), [&](const Shape& i) {
    moments.variance += std::pow(Get(group, i) - moments.mean, 2) / count;
  });
  return moments;
}

double GetOr(const ConstTensorView& view, int64_t i, double otherwise) {
  return view.empty() ? otherwise : Get(view, {i});
}

}  // namespace

void LayerNorm(Context&, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
               float epsilon, TensorView output) {
  ForEachIndex(LeadingAxes(input.shape()), [&](const Shape& row) {
    const Moments moments = RowMoments(input, row);
    for (int64_t c = 0; c < input.dim(-1); ++c) {
      const double x = (Get(input, With(row, c)) - moments.mean) /
                       std::sqrt(moments.variance + static_cast<double>(epsilon));
      Set(output, With(row, c), x * GetOr(weight, c, 1) + GetOr(bias, c, 0));
    }
  });
}

void LayerNormModulate(Context&, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output) {
  ForEachIndex(LeadingAxes(input.shape()), [&](const Shape& row) {
    const Moments moments = RowMoments(input, row);
    for (int64_t c = 0; c < input.dim(-1); ++c) {
      const double x = (Get(input, With(row, c)) - moments.mean) /
                       std::sqrt(moments.variance + static_cast<double>(epsilon));
      Set(output, With(row, c), x * (1 + Get(scale, {row[0], c})) + Get(shift, {row[0], c}));
    }
  });
}

void RmsNorm(Context&, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output) {
  ForEachIndex(LeadingAxes(input.shape()), [&](const Shape& row) {
    double mean_square = 0;
    for (int64_t c = 0; c < input.dim(-1); ++c) {
      mean_square += std::pow(Get(input, With(row, c)), 2) / static_cast<double>(input.dim(-1));
    }
    for (int64_t c = 0; c < input.dim(-1); ++c) {
      Set(output, With(row, c),
          Get(input, With(row, c)) / std::sqrt(mean_square + static_cast<double>(epsilon)) *
              GetOr(weight, c, 1));
    }
  });
}

void GroupNormStatistics(Context&, ConstTensorView input, int64_t groups, ConstTensorView weight,
                         ConstTensorView bias, float epsilon, TensorView gain, TensorView offset) {
  const int64_t channels = input.dim(3) / groups;
  ForEachIndex({input.dim(0), groups}, [&](const Shape& i) {
    const int64_t begin = i[1] * channels, end = begin + channels;
    const Moments moments = GroupMoments(input, i[0], begin, end);
    for (int64_t c = begin; c < end; ++c) {
      const double slope =
          GetOr(weight, c, 1) / std::sqrt(moments.variance + static_cast<double>(epsilon));
      Set(gain, {i[0], c}, slope);
      Set(offset, {i[0], c}, GetOr(bias, c, 0) - moments.mean * slope);
    }
  });
}

void ScaleShiftChannels(Context&, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output) {
  ForEachIndex(input.shape(), [&](const Shape& i) {
    const double x = Get(input, i) * Get(gain, {i[0], i[3]}) + Get(offset, {i[0], i[3]});
    Set(output, i, ActivateScalar(silu ? Activation::kSilu : Activation::kNone, x));
  });
}

}  // namespace tamias::reference
