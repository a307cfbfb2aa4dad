// The parts of the autoencoder's decoder: see the header.
#include "models/autoencoder_blocks.h"

#include <algorithm>
#include <cmath>

#include "ops/biased_attention.h"
#include "ops/norm.h"
#include "ops/upsample_conv2d.h"

namespace tamias {
namespace {

constexpr float kNormEpsilon = 1e-6f;

size_t BytesOf(const Picture& picture) {
  return static_cast<size_t>(picture.shape().NumElements()) * sizeof(float);
}

// Of a group norm, each in whole cache lines.
size_t GainAndOffsetBytes(const Picture& picture) {
  return 2 * static_cast<size_t>(picture.channels) * sizeof(float) + 2 * 64;
}

}  // namespace

ConvLayer ConvLayer::Load(const Weights& weights, const std::string& name, int64_t in, int64_t out,
                          int64_t kernel) {
  return {weights.Get(name + ".weight", {out, in, kernel, kernel}),
          weights.Get(name + ".bias", {out})};
}

DecoderPass::DecoderPass(Context& context, int64_t norm_num_groups, const DecoderMemory& memory)
    : context_(context), groups_(norm_num_groups), is_dry_(false) {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    buffers_[i] =
        context.workspace().Allocate({static_cast<int64_t>(memory.buffers[i] / sizeof(float))});
  }
}

// Best fit: the smallest free buffer that is large enough by now, else the largest. A real pass
// repeats the choices of the dry one.
Picture DecoderPass::Allocate(int64_t height, int64_t width, int64_t channels) {
  Picture picture{0, height, width, channels};
  const size_t bytes = BytesOf(picture);
  std::optional<size_t> best;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    if (in_use_[i]) continue;
    const size_t size = memory_.buffers[i];
    const size_t best_size = best ? memory_.buffers[*best] : 0;
    const bool fits = size >= bytes, best_fits = best && best_size >= bytes;
    if (!best || (fits && (!best_fits || size < best_size)) ||
        (!fits && !best_fits && size > best_size)) {
      best = i;
    }
  }
  TAMIAS_CHECK(best.has_value());
  picture.buffer = *best;
  in_use_[*best] = true;
  memory_.buffers[*best] = std::max(memory_.buffers[*best], bytes);
  return picture;
}

TensorView DecoderPass::View(const Picture& picture) const {
  return TensorView(buffers_[picture.buffer].raw(), DType::kF32, picture.shape());
}

void DecoderPass::Convolve(const ConvLayer& layer, const Shape& shape, ConstTensorView input,
                           TensorView output) {
  if (is_dry()) {
    return NeedScratch([&] {
      return Conv2dWorkspaceBytes(context_, shape, layer.weight, layer.padding(), false);
    });
  }
  Conv2d(context_, input, layer.weight, layer.bias, {.padding = layer.padding()}, output);
}

void DecoderPass::NormConvolve(const NormLayer& norm, const ConvLayer& layer, const Picture& input,
                               bool accumulate, TensorView output) {
  if (is_dry()) {
    return NeedScratch([&] {
      return GainAndOffsetBytes(input) +
             std::max(GroupNormStatisticsWorkspaceBytes(context_, input.channels),
                      Conv2dWorkspaceBytes(context_, input.shape(), layer.weight, layer.padding(),
                                           true));
    });
  }
  Workspace::Scope scope(context_.workspace());
  const TensorView gain = context_.workspace().Allocate({1, input.channels});
  const TensorView offset = context_.workspace().Allocate({1, input.channels});
  GroupNormStatistics(context_, View(input), groups_, norm.weight, norm.bias, kNormEpsilon, gain,
                      offset);
  Conv2d(context_, View(input), layer.weight, layer.bias,
         {.padding = layer.padding(),
          .accumulate = accumulate,
          .input_gain = gain,
          .input_offset = offset,
          .input_silu = true},
         output);
}

void DecoderPass::Norm(const NormLayer& norm, const Picture& input, const Picture& output) {
  if (is_dry()) {
    // Also the patterns of ScaleShiftChannels, which are no longer than those of the statistics.
    return NeedScratch([&] {
      return GainAndOffsetBytes(input) +
             GroupNormStatisticsWorkspaceBytes(context_, input.channels);
    });
  }
  GroupNorm(context_, View(input), groups_, norm.weight, norm.bias, kNormEpsilon, /*silu=*/false,
            View(output));
}

ResidualBlock::ResidualBlock(const Weights& weights, int64_t in, int64_t out)
    : norm1_(NormLayer::Load(weights, "norm1", in)),
      norm2_(NormLayer::Load(weights, "norm2", out)),
      conv1_(ConvLayer::Load(weights, "conv1", in, out, 3)),
      conv2_(ConvLayer::Load(weights, "conv2", out, out, 3)) {
  if (in != out) shortcut_ = ConvLayer::Load(weights, "conv_shortcut", in, out, 1);
}

Picture ResidualBlock::Forward(DecoderPass& pass, const Picture& input) const {
  const int64_t out = conv1_.weight.dim(0);
  const Picture hidden = pass.Allocate(input.height, input.width, out);
  pass.NormConvolve(norm1_, conv1_, input, /*accumulate=*/false, pass.View(hidden));
  Picture output = input;
  if (shortcut_) {
    output = pass.Allocate(input.height, input.width, out);
    pass.Convolve(*shortcut_, input.shape(), pass.View(input), pass.View(output));
    pass.Free(input);
  }
  pass.NormConvolve(norm2_, conv2_, hidden, /*accumulate=*/true, pass.View(output));
  pass.Free(hidden);
  return output;
}

PixelAttention::PixelAttention(const Weights& weights, int64_t channels)
    : norm_(NormLayer::Load(weights, "group_norm", channels)),
      query_(LinearLayer::Load(weights, "to_q", channels, channels)),
      key_(LinearLayer::Load(weights, "to_k", channels, channels)),
      value_(LinearLayer::Load(weights, "to_v", channels, channels)),
      out_(LinearLayer::Load(weights, "to_out.0", channels, channels)) {}

void PixelAttention::Forward(DecoderPass& pass, const Picture& picture) const {
  const int64_t channels = picture.channels;
  const Picture normed = pass.Allocate(picture.height, picture.width, channels);
  const Picture projected = pass.Allocate(picture.height, picture.width, 3 * channels);
  pass.Norm(norm_, picture, normed);
  if (pass.is_dry()) {
    const int64_t pixels = picture.height * picture.width;
    pass.NeedScratch([&] {
      return std::max(LinearWorkspaceBytes(pixels, channels, channels, query_.weight.dtype()),
                      BiasedAttentionWorkspaceBytes(pass.context(), pixels, pixels, channels));
    });
  } else {
    ForwardPixels(pass, picture, normed, projected);
  }
  pass.Free(normed);
  pass.Free(projected);
}

void PixelAttention::ForwardPixels(DecoderPass& pass, const Picture& picture, const Picture& normed,
                                   const Picture& projected) const {
  const int64_t pixels = picture.height * picture.width, channels = picture.channels;
  Context& context = pass.context();
  const TensorView rows = pass.View(normed).Reshape({1, 1, pixels, channels});
  const TensorView triple = pass.View(projected).Reshape({1, 1, pixels, 3 * channels});
  const TensorView query = triple.Slice(3, 0, channels);
  const TensorView key = triple.Slice(3, channels, 2 * channels);
  const TensorView value = triple.Slice(3, 2 * channels, 3 * channels);
  query_(context, rows, query);
  key_(context, rows, key);
  value_(context, rows, value);
  BiasedAttention(context,
                  {.query = query,
                   .key = key,
                   .value = value,
                   .scale = 1 / std::sqrt(static_cast<float>(channels))},
                  rows);
  out_(context, rows, pass.View(picture).Reshape({1, 1, pixels, channels}), {.accumulate = true});
}

DecoderLevel::DecoderLevel(const Weights& weights, int64_t in, int64_t out, int64_t num_blocks,
                           bool has_upsampler) {
  for (int64_t i = 0; i < num_blocks; ++i) {
    blocks_.emplace_back(weights.Sub("resnets", i), i == 0 ? in : out, out);
  }
  if (has_upsampler) upsampler_ = ConvLayer::Load(weights, "upsamplers.0.conv", out, out, 3);
}

Picture DecoderLevel::Forward(DecoderPass& pass, Picture picture) const {
  for (const ResidualBlock& block : blocks_) picture = block.Forward(pass, picture);
  if (!upsampler_) return picture;
  const Picture enlarged = pass.Allocate(2 * picture.height, 2 * picture.width, picture.channels);
  if (pass.is_dry()) {
    pass.NeedScratch([&] {
      return UpsampleConv2dWorkspaceBytes(pass.context(), picture.shape(), upsampler_->weight);
    });
  } else {
    UpsampleConv2d(pass.context(), pass.View(picture), upsampler_->weight, upsampler_->bias,
                   pass.View(enlarged));
  }
  pass.Free(picture);
  return enlarged;
}

}  // namespace tamias
