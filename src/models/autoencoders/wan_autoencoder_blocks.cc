// Parts of Wan 2.1's autoencoder: see the header.
#include "models/autoencoders/wan_autoencoder_blocks.h"

#include <cmath>

#include "ops/biased_attention.h"

namespace tamias {
namespace {

constexpr int64_t kKernel = 3;

// As x / max(|x|, 1e-12) sqrt(C): the mean square may be that of |x| = 1e-12, but not 0.
float NormEpsilon(int64_t channels) { return 1e-24f / static_cast<float>(channels); }

// The weight is [C] with as many axes of one as the data has axes beside.
FrameNorm LoadNorm(const Weights& weights, const std::string& name, const Shape& shape) {
  return {.layer = {.weight = weights.Get(name + ".gamma", shape).Reshape({shape[0]}), .bias = {}},
          .groups = 0,
          .epsilon = NormEpsilon(shape[0])};
}

}  // namespace

FrameNorm LoadWanNorm(const Weights& weights, const std::string& name, int64_t channels) {
  return LoadNorm(weights, name, {channels, 1, 1, 1});
}

CausalConv LoadWanConv(const Weights& weights, const std::string& name, int64_t in, int64_t out) {
  return CausalConv::Load(weights, name, in, out, kKernel, kKernel);
}

LinearLayer LoadPointwise(const Weights& weights, const std::string& name, const Shape& shape) {
  return {weights.Get(name + ".weight", shape).Reshape({shape[0], shape[1]}),
          weights.Get(name + ".bias", {shape[0]})};
}

FrameResidualBlock LoadWanBlock(const Weights& weights, int64_t in, int64_t out) {
  FrameResidualBlock block = {.norm1 = LoadWanNorm(weights, "norm1", in),
                              .conv1 = LoadWanConv(weights, "conv1", in, out),
                              .norm2 = LoadWanNorm(weights, "norm2", out),
                              .conv2 = LoadWanConv(weights, "conv2", out, out)};
  if (in != out) block.shortcut = LoadPointwise(weights, "conv_shortcut", {out, in, 1, 1, 1});
  return block;
}

WanPixelAttention WanPixelAttention::Load(const Weights& weights, int64_t channels) {
  return {LoadNorm(weights, "norm", {channels, 1, 1}),
          LoadPointwise(weights, "to_qkv", {3 * channels, channels, 1, 1}),
          LoadPointwise(weights, "proj", {channels, channels, 1, 1})};
}

void WanPixelAttention::Forward(FramePass& pass, const TensorView& frame) const {
  const FramePass::Scope scope(pass);
  Context& context = pass.context();
  const int64_t pixels = frame.dim(1) * frame.dim(2), channels = frame.dim(3);
  const TensorView normed = pass.Allocate(frame.shape());
  const TensorView projected = pass.Allocate({1, frame.dim(1), frame.dim(2), 3 * channels});
  norm(pass, frame, /*silu=*/false, normed);
  ApplyToPixels(pass, qkv, normed, /*accumulate=*/false, projected);
  pass.Run([&] {
    const TensorView triple = projected.Reshape({1, 1, pixels, 3 * channels});
    BiasedAttention(context,
                    {.query = triple.Slice(3, 0, channels),
                     .key = triple.Slice(3, channels, 2 * channels),
                     .value = triple.Slice(3, 2 * channels, 3 * channels),
                     .scale = 1 / std::sqrt(static_cast<float>(channels))},
                    normed.Reshape({1, 1, pixels, channels}));
  });
  ApplyToPixels(pass, proj, normed, /*accumulate=*/true, frame);
}

WanMiddle WanMiddle::Load(const Weights& weights, int64_t channels) {
  return {LoadWanBlock(weights.Sub("resnets", 0), channels, channels),
          WanPixelAttention::Load(weights.Sub("attentions", 0), channels),
          LoadWanBlock(weights.Sub("resnets", 1), channels, channels)};
}

void WanMiddle::Forward(FramePass& pass, const TensorView& frame) const {
  block1.Forward(pass, frame);
  attention.Forward(pass, frame);
  block2.Forward(pass, frame);
}

}  // namespace tamias
