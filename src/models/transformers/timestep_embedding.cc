// Sinusoidal embeddings and their MLP: see the header.
#include "models/transformers/timestep_embedding.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "base/check.h"
#include "ops/copy_values.h"

namespace tamias {
namespace {

// One row.
std::vector<float> Sinusoids(float value, int64_t half) {
  std::vector<float> row(static_cast<size_t>(2 * half));
  float* cos = row.data();
  float* sin = cos + half;
  // fp32 throughout, as PyTorch: at value 1000 the rounding of a frequency is visible.
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = -std::log(10000.0f) * static_cast<float>(i) / static_cast<float>(half);
    const float angle = value * std::exp(exponent);
    cos[i] = std::cos(angle);
    sin[i] = std::sin(angle);
  }
  return row;
}

}  // namespace

void SinusoidalEmbedding(Context& context, float value, TensorView embedding) {
  TAMIAS_CHECK(embedding.rank() == 2 && embedding.dim(1) % 2 == 0);
  const std::vector<float> sinusoids = Sinusoids(value, embedding.dim(1) / 2);
  const std::span<const float> row(sinusoids);
  for (int64_t item = 0; item < embedding.dim(0); ++item) {
    for (int64_t begin = 0; begin < embedding.dim(1); begin += kMostValues) {
      const int64_t end = std::min(begin + kMostValues, embedding.dim(1));
      CopyValues(context, row.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)),
                 embedding.Select(0, item).Slice(0, begin, end));
    }
  }
}

TimestepEmbedding TimestepEmbedding::Load(const Weights& weights, const std::string& name,
                                          int64_t in, int64_t dim) {
  return {LinearLayer::Load(weights, name + ".linear_1", in, dim),
          LinearLayer::Load(weights, name + ".linear_2", dim, dim)};
}

void TimestepEmbedding::operator()(Context& context, ConstTensorView input, TensorView output,
                                   bool accumulate) const {
  Workspace::Scope scope(context.workspace());
  const TensorView inner = context.workspace().Allocate(output.shape(), DType::kF32);
  linear_1(context, input, inner, {.activation = Activation::kSilu});
  linear_2(context, inner, output, {.accumulate = accumulate});
}

}  // namespace tamias
