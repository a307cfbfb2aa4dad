// The decoder of Wan 2.1's autoencoder: see the header.
#include "models/autoencoders/autoencoder_kl_wan.h"

#include <algorithm>

#include "base/check.h"
#include "io/json.h"
#include "models/autoencoders/autoencoder_config.h"
#include "models/config_fields.h"
#include "ops/upsample_conv2d.h"
#include "tamias/ops/copy.h"

namespace tamias {
namespace {

constexpr int64_t kColours = 3;
constexpr int64_t kKernel = 3;

void Refuse(const JsonObject& json, std::string_view field, std::string_view found) {
  Fail(ErrorCode::kUnsupported,
       "{}: field '{}': only the autoencoder of Wan 2.1 is supported, found {}", json.source(),
       field, found);
}

// The autoencoder of Wan 2.2 has shortcuts around its levels and cuts pictures into patches.
void RefuseLaterVersions(const JsonObject& json) {
  if (json.BoolOr("is_residual", false)) Refuse(json, "is_residual", "true");
  const int64_t patch = json.IntOr("patch_size", 1, {1, 1 << 10});
  if (patch != 1) Refuse(json, "patch_size", fmt::format("{}", patch));
  const int64_t colours = json.IntOr("out_channels", kColours, {1, 1 << 10});
  if (colours != kColours) Refuse(json, "out_channels", fmt::format("{}", colours));
}

// A field that repeats what follows from the levels.
void CheckScale(const JsonObject& json, std::string_view field, int64_t expected) {
  const int64_t found = json.IntOr(field, expected, {1, 1 << 20});
  if (found == expected) return;
  json.FailField(field,
                 fmt::format("expected {}, as the levels have it, found {}", expected, found));
}

}  // namespace

int64_t AutoencoderKlWanConfig::temporal_scale() const {
  return int64_t{1} << std::ranges::count(temporal_downsample, true);
}

int64_t AutoencoderKlWanConfig::Channels(size_t level) const {
  return decoder_base_dim * dim_mult[dim_mult.size() - 1 - level];
}

// Absent fields have the values that diffusers gives them, but for the latents' statistics.
AutoencoderKlWanConfig AutoencoderKlWanConfig::FromJson(const JsonObject& json) {
  constexpr int64_t kMostChannels = kMostAutoencoderChannels, kMostLevels = 8;
  RefuseNull(json, {"z_dim", "base_dim", "dim_mult", "num_res_blocks", "temperal_downsample"});
  RefuseLaterVersions(json);
  AutoencoderKlWanConfig config;
  config.z_dim = json.IntOr("z_dim", 16, {1, kMostChannels});
  config.base_dim = json.IntOr("base_dim", 96, {1, kMostChannels});
  config.decoder_base_dim = json.IntOr("decoder_base_dim", config.base_dim, {1, kMostChannels});
  config.dim_mult = json.IntArrayOr("dim_mult", {1, 2, 4, 4}, {1, kMostChannels});
  const auto levels = static_cast<int64_t>(config.dim_mult.size());
  if (levels < 1 || levels > kMostLevels) {
    json.FailField("dim_mult",
                   fmt::format("expected 1 to {} levels, found {}", kMostLevels, levels));
  }
  for (size_t level = 0; level < config.dim_mult.size(); ++level) {
    // A level that enlarges halves its channels.
    const int64_t channels = config.Channels(level);
    if (channels < 2 || channels > kMostChannels) {
      json.FailField("dim_mult", fmt::format("expected levels of 2 to {} channels, found {}",
                                             kMostChannels, channels));
    }
  }
  config.num_res_blocks = json.IntOr("num_res_blocks", 2, {0, 64});
  if (json.Has("temperal_downsample")) {
    config.temporal_downsample = json.BoolArray("temperal_downsample");
  }
  CheckCount(json, "temperal_downsample", config.temporal_downsample.size(),
             config.dim_mult.size() - 1);
  config.latents_mean = json.FloatArray("latents_mean", {-1e6, 1e6});
  config.latents_std = json.FloatArray("latents_std", {1e-6, 1e6});
  CheckCount(json, "latents_mean", config.latents_mean.size(), static_cast<size_t>(config.z_dim));
  CheckCount(json, "latents_std", config.latents_std.size(), static_cast<size_t>(config.z_dim));
  CheckScale(json, "scale_factor_spatial", config.spatial_scale());
  CheckScale(json, "scale_factor_temporal", config.temporal_scale());
  return config;
}

AutoencoderKlWan::AutoencoderKlWan(const AutoencoderKlWanConfig& config, const Weights& weights,
                                   const FrameTiling& tiling)
    : FrameDecoder({.latent_channels = config.z_dim,
                    .temporal_scale = config.temporal_scale(),
                    .spatial_scale = config.spatial_scale(),
                    .padding = PaddingMode::kZeros},
                   tiling),
      config_(config),
      weights_(weights) {
  const int64_t latent = config.z_dim, coarsest = config.Channels(0);
  post_quant_conv_ = LoadPointwise(weights, "post_quant_conv", {latent, latent, 1, 1, 1});
  const Weights decoder = weights.Sub("decoder");
  conv_in_ = LoadWanConv(decoder, "conv_in", latent, coarsest);
  middle_ = WanMiddle::Load(decoder.Sub("mid_block"), coarsest);
  for (size_t i = 0; i < config.dim_mult.size(); ++i) {
    levels_.push_back(LoadLevel(decoder.Sub("up_blocks", static_cast<int64_t>(i)), i));
  }
  const int64_t finest = config.Channels(levels_.size() - 1);
  norm_out_ = LoadWanNorm(decoder, "norm_out", finest);
  conv_out_ = LoadWanConv(decoder, "conv_out", finest, kColours);
}

AutoencoderKlWan::Level AutoencoderKlWan::LoadLevel(const Weights& weights, size_t index) const {
  const int64_t out = config_.Channels(index);
  int64_t in = index == 0 ? out : config_.Channels(index - 1) / 2;
  Level level;
  for (int64_t i = 0; i <= config_.num_res_blocks; ++i) {
    level.blocks.push_back(LoadWanBlock(weights.Sub("resnets", i), in, out));
    in = out;
  }
  if (index + 1 == config_.dim_mult.size()) return level;
  const Weights resample = weights.Sub("upsamplers", 0);
  Upsampler& upsampler = level.upsampler.emplace();
  if (config_.temporal_downsample[config_.temporal_downsample.size() - 1 - index]) {
    upsampler.time_conv = CausalConv::Load(resample, "time_conv", out, 2 * out, kKernel, 1);
  }
  upsampler.weight = resample.Get("resample.1.weight", {out / 2, out, 3, 3});
  upsampler.bias = resample.Get("resample.1.bias", {out / 2});
  return level;
}

void AutoencoderKlWan::DecodeLatentFrame(FramePass& pass, bool is_first, ConstTensorView latents,
                                         const FrameSink& sink) const {
  const FramePass::Scope scope(pass);
  const TensorView quantised = pass.TakeFrame(latents.shape());
  ApplyToPixels(pass, post_quant_conv_, latents, /*accumulate=*/false, quantised);
  const TensorView frame = pass.Allocate({1, latents.dim(1), latents.dim(2), config_.Channels(0)});
  pass.Convolve(conv_in_, quantised, /*accumulate=*/false, {frame});
  middle_.Forward(pass, frame);
  DecodeFrom({.pass = pass, .is_first = is_first, .sink = sink}, 0, frame);
}

void AutoencoderKlWan::DecodeFrom(const Turn& turn, size_t level, TensorView frame) const {
  FramePass& pass = turn.pass;
  for (const FrameResidualBlock& block : levels_[level].blocks) frame = block.Forward(pass, frame);
  const std::optional<Upsampler>& upsampler = levels_[level].upsampler;
  if (!upsampler) return Finish(turn, frame);
  // The first latent frame is not doubled, nor does the convolution remember it.
  if (!upsampler->time_conv || turn.is_first) return Enlarge(turn, level, frame);
  const TensorView input = pass.TakeFrame(frame.shape());
  pass.Run([&] { Copy(pass.context(), frame, input); });
  const TensorView first = pass.Allocate(frame.shape()), second = frame;
  pass.Convolve(*upsampler->time_conv, input, /*accumulate=*/false, {first, second});
  Enlarge(turn, level, first);
  Enlarge(turn, level, second);
}

void AutoencoderKlWan::Enlarge(const Turn& turn, size_t level, const TensorView& frame) const {
  FramePass& pass = turn.pass;
  const FramePass::Scope scope(pass);
  Context& context = pass.context();
  const auto& upsampler = *levels_[level].upsampler;
  const int64_t channels = upsampler.weight.dim(0);
  const TensorView enlarged = pass.Allocate({1, 2 * frame.dim(1), 2 * frame.dim(2), channels});
  pass.Run([&] { UpsampleConv2d(context, frame, upsampler.weight, upsampler.bias, enlarged); });
  DecodeFrom(turn, level + 1, enlarged);
}

void AutoencoderKlWan::Finish(const Turn& turn, const TensorView& frame) const {
  FramePass& pass = turn.pass;
  const TensorView pixels = pass.Allocate({1, frame.dim(1), frame.dim(2), kColours}, DType::kF32);
  NormConvolve(pass, norm_out_, conv_out_, frame, /*accumulate=*/false, pixels);
  if (!pass.is_dry()) turn.sink(pixels);
}

}  // namespace tamias
