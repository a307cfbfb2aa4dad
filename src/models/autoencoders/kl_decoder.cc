// The KL autoencoders' decoder network: see the header.
#include "models/autoencoders/kl_decoder.h"

#include "base/check.h"
#include "models/autoencoders/activations_of.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

// 1 x 1 (x 1); not nested as the other convolutions of films are.
ConvLayer LoadPostQuantConv(const Weights& weights, const KlDecoderConfig& config) {
  const int64_t channels = config.latent_channels;
  if (config.kind == ConvKind::kPicture) {
    return ConvLayer::Load(weights, "post_quant_conv", channels, channels, 1, config.kind);
  }
  return {weights.Get("post_quant_conv.weight", {channels, channels, 1, 1, 1}),
          weights.Get("post_quant_conv.bias", {channels}), PaddingMode::kReplicate};
}

}  // namespace

KlDecoder::KlDecoder(const KlDecoderConfig& config, const Weights& weights) : config_(config) {
  const size_t levels = config.block_out_channels.size();
  TAMIAS_CHECK(levels > 0 && config.enlargements.size() == levels);
  const ConvKind kind = config.kind;
  const Weights decoder = weights.Sub("decoder"), mid = decoder.Sub("mid_block");
  if (config.use_post_quant_conv) post_quant_conv_ = LoadPostQuantConv(weights, config);
  int64_t channels = config.block_out_channels.back();
  conv_in_ = ConvLayer::Load(decoder, "conv_in", config.latent_channels, channels, 3, kind);
  mid_block1_.emplace(mid.Sub("resnets", 0), channels, channels, kind);
  if (config.mid_block_add_attention) mid_attention_.emplace(mid.Sub("attentions", 0), channels);
  mid_block2_.emplace(mid.Sub("resnets", 1), channels, channels, kind);
  for (size_t i = 0; i < levels; ++i) {
    const int64_t out = config.block_out_channels[levels - 1 - i];
    levels_.emplace_back(decoder.Sub("up_blocks", static_cast<int64_t>(i)), channels, out,
                         config.layers_per_block + 1, kind, config.enlargements[i]);
    channels = out;
  }
  norm_out_ = NormLayer::Load(decoder, "conv_norm_out", channels);
  conv_out_ = ConvLayer::Load(decoder, "conv_out", channels, config.out_channels, 3, kind);
}

Shape KlDecoder::OutputShape(int64_t frames, int64_t height, int64_t width) const {
  for (const Enlargement enlargement : config_.enlargements) {
    if (enlargement == Enlargement::kNone) continue;
    if (enlargement == Enlargement::kSpaceAndTime) frames = 2 * frames - 1;
    height *= 2;
    width *= 2;
  }
  return {frames, height, width, config_.out_channels};
}

void KlDecoder::Forward(DecoderPass& pass, const Shape& shape, ConstTensorView latents,
                        TensorView pixels) const {
  std::optional<Film> quantised;
  if (post_quant_conv_) {
    quantised = pass.Allocate(shape);
    pass.Run([&] {
      pass.Convolve(*post_quant_conv_, latents, pass.View(*quantised));
      latents = pass.View(*quantised);
    });
  }
  Film film = pass.Allocate({shape[0], shape[1], shape[2], conv_in_.weight.dim(0)});
  pass.Run([&] { pass.Convolve(conv_in_, latents, pass.View(film)); });
  if (quantised) pass.Free(*quantised);
  film = mid_block1_->Forward(pass, film);
  if (mid_attention_) mid_attention_->Forward(pass, film);
  film = mid_block2_->Forward(pass, film);
  for (const DecoderLevel& level : levels_) film = level.Forward(pass, film);
  pass.Run([&] { pass.NormConvolve(norm_out_, conv_out_, film, /*accumulate=*/false, pixels); });
  pass.Free(film);
}

DecoderBuffers KlDecoder::MeasureBuffers(Context& context, int64_t frames, int64_t height,
                                         int64_t width) const {
  DecoderPass pass(context, config_.norm_num_groups);
  Forward(pass, {frames, height, width, config_.latent_channels}, {}, {});
  return pass.buffers();
}

void KlDecoder::Decode(Context& context, ConstTensorView latents, TensorView pixels) const {
  Workspace::Scope scope(context.workspace());
  const DecoderBuffers buffers =
      MeasureBuffers(context, latents.dim(0), latents.dim(1), latents.dim(2));
  DeviceMirror picture(context, pixels);
  latents = ActivationsOf(context, latents);
  DecoderPass pass(context, config_.norm_num_groups, buffers);
  Forward(pass, latents.shape(), latents, picture.device());
  picture.Download(context);
}

}  // namespace tamias
