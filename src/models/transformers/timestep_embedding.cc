// Sinusoidal embeddings and their MLP: see the header.
#include "models/transformers/timestep_embedding.h"

#include <cmath>

#include "base/check.h"
#include "tamias/device_memory.h"

namespace tamias {

namespace {

void FillSinusoids(float value, TensorView embedding) {
  const int64_t half = embedding.dim(1) / 2;
  for (int64_t row = 0; row < embedding.dim(0); ++row) {
    float* cos = embedding.Select(0, row).host_data<float>();
    float* sin = cos + half;
    // fp32 throughout, as PyTorch: at value 1000 the rounding of a frequency is visible.
    for (int64_t i = 0; i < half; ++i) {
      const float exponent = -std::log(10000.0f) * static_cast<float>(i) / static_cast<float>(half);
      const float angle = value * std::exp(exponent);
      cos[i] = std::cos(angle);
      sin[i] = std::sin(angle);
    }
  }
}

}  // namespace

void SinusoidalEmbedding(const Context& context, float value, TensorView embedding) {
  TAMIAS_CHECK(embedding.rank() == 2 && embedding.dim(1) % 2 == 0);
  if (context.IsPlanning()) return;
  if (!context.IsOnGpu()) return FillSinusoids(value, embedding);
  Tensor host(embedding.shape(), DType::kF32);
  FillSinusoids(value, host);
  CopyToDevice(context, host, embedding);
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
