// The decoder of Mochi's autoencoder: see the header.
#include "models/autoencoders/autoencoder_kl_mochi.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "io/json.h"
#include "models/autoencoders/autoencoder_config.h"
#include "models/config_fields.h"
#include "tamias/ops/activation.h"
#include "tamias/ops/copy.h"

namespace tamias {
namespace {

constexpr int64_t kColours = 3;
constexpr int64_t kKernel = 3;
constexpr int64_t kNormGroups = 32;  // not in the configuration, nor is the epsilon
constexpr float kNormEpsilon = 1e-5f;

int64_t Product(const std::vector<int64_t>& factors) {
  return std::accumulate(factors.begin(), factors.end(), int64_t{1}, std::multiplies<>());
}

FrameNorm LoadNorm(const Weights& weights, const std::string& name, int64_t channels) {
  return {.layer = NormLayer::Load(weights, name + ".norm_layer", channels),
          .groups = kNormGroups,
          .epsilon = kNormEpsilon};
}

std::vector<FrameResidualBlock> LoadBlocks(const Weights& weights, int64_t channels,
                                           int64_t count) {
  std::vector<FrameResidualBlock> blocks;
  for (int64_t i = 0; i < count; ++i) {
    const Weights block = weights.Sub("resnets", i);
    const auto conv = [&](const std::string& name) {
      return CausalConv::Load(block, name + ".conv", channels, channels, kKernel, kKernel);
    };
    blocks.push_back({.norm1 = LoadNorm(block, "norm1", channels),
                      .conv1 = conv("conv1"),
                      .norm2 = LoadNorm(block, "norm2", channels),
                      .conv2 = conv("conv2")});
  }
  return blocks;
}

// Absent or null: none.
std::vector<double> ReadStatistics(const JsonObject& json, std::string_view field, int64_t channels,
                                   FloatRange range) {
  if (!json.Has(field)) return {};
  const std::vector<double> values = json.FloatArray(field, range);
  CheckCount(json, field, values.size(), static_cast<size_t>(channels));
  return values;
}

void RefuseVariants(const JsonObject& json) {
  const std::string activation = json.StringOr("act_fn", "silu");
  RequireValue(json, "act_fn", activation == "swish" ? "silu" : activation, "silu");
  const int64_t colours = json.IntOr("out_channels", kColours, {1, 1 << 10});
  RequireValue(json, "out_channels", fmt::format("{}", colours), fmt::format("{}", kColours));
}

}  // namespace

int64_t AutoencoderKlMochiConfig::temporal_scale() const { return Product(temporal_expansions); }

int64_t AutoencoderKlMochiConfig::spatial_scale() const { return Product(spatial_expansions); }

// Absent fields have the values that diffusers gives them, but for the latents' statistics.
AutoencoderKlMochiConfig AutoencoderKlMochiConfig::FromJson(const JsonObject& json) {
  constexpr int64_t kMostChannels = kMostAutoencoderChannels, kMostLevels = 8;
  constexpr int64_t kMostExpansion = 8;
  RefuseNull(json,
             {"act_fn", "out_channels", "latent_channels", "decoder_block_out_channels",
              "layers_per_block", "temporal_expansions", "spatial_expansions", "scaling_factor"});
  RefuseVariants(json);
  AutoencoderKlMochiConfig config;
  config.latent_channels =
      json.IntOr("latent_channels", config.latent_channels, {1, kMostChannels});
  config.block_out_channels =
      json.IntArrayOr("decoder_block_out_channels", config.block_out_channels, {1, kMostChannels});
  const size_t levels = config.block_out_channels.size();
  if (levels < 1 || levels > kMostLevels) {
    json.FailField("decoder_block_out_channels",
                   fmt::format("expected 1 to {} levels, found {}", kMostLevels, levels));
  }
  for (const int64_t channels : config.block_out_channels) {
    if (channels % kNormGroups != 0) {
      json.FailField("decoder_block_out_channels",
                     fmt::format("expected multiples of {}, found {}", kNormGroups, channels));
    }
  }
  config.layers_per_block = json.IntArrayOr("layers_per_block", config.layers_per_block, {0, 64});
  config.temporal_expansions =
      json.IntArrayOr("temporal_expansions", config.temporal_expansions, {1, kMostExpansion});
  config.spatial_expansions =
      json.IntArrayOr("spatial_expansions", config.spatial_expansions, {1, kMostExpansion});
  CheckCount(json, "layers_per_block", config.layers_per_block.size(), levels + 1);
  CheckCount(json, "temporal_expansions", config.temporal_expansions.size(), levels - 1);
  CheckCount(json, "spatial_expansions", config.spatial_expansions.size(), levels - 1);
  config.latents_mean = ReadStatistics(json, "latents_mean", config.latent_channels, {-1e6, 1e6});
  config.latents_std = ReadStatistics(json, "latents_std", config.latent_channels, {1e-6, 1e6});
  config.scaling_factor = json.FloatOr("scaling_factor", 1, {1e-6, 1e6});
  return config;
}

AutoencoderKlMochi::AutoencoderKlMochi(const AutoencoderKlMochiConfig& config,
                                       const Weights& weights, const FrameTiling& tiling)
    : FrameDecoder({.latent_channels = config.latent_channels,
                    .temporal_scale = config.temporal_scale(),
                    .spatial_scale = config.spatial_scale(),
                    .padding = PaddingMode::kReplicate},
                   tiling),
      config_(config),
      weights_(weights) {
  const Weights decoder = weights.Sub("decoder");
  const size_t finest = config.block_out_channels.size() - 1;
  const int64_t coarsest_channels = config.block_out_channels[finest];
  const Shape conv_in = {coarsest_channels, config.latent_channels, 1, 1, 1};
  conv_in_ = {decoder.Get("conv_in.weight", conv_in).Reshape({conv_in[0], conv_in[1]}),
              decoder.Get("conv_in.bias", {coarsest_channels})};
  blocks_in_ =
      LoadBlocks(decoder.Sub("block_in"), coarsest_channels, config.layers_per_block[finest + 1]);
  for (size_t i = 0; i <= finest; ++i) {
    const size_t from_finest = finest - i;
    const Weights part =
        i < finest ? decoder.Sub("up_blocks", static_cast<int64_t>(i)) : decoder.Sub("block_out");
    Level& level = levels_.emplace_back();
    level.blocks = LoadBlocks(part, config.block_out_channels[from_finest],
                              config.layers_per_block[from_finest]);
    if (i < finest) level.expansion = LoadExpansion(part, from_finest);
  }
  proj_out_ = LinearLayer::Load(decoder, "proj_out", config.block_out_channels[0], kColours);
}

// index: of the level it starts from, counted from the finest.
AutoencoderKlMochi::Expansion AutoencoderKlMochi::LoadExpansion(const Weights& weights,
                                                                size_t index) const {
  const int64_t in = config_.block_out_channels[index], out = config_.block_out_channels[index - 1];
  const int64_t time = config_.temporal_expansions[index - 1];
  const int64_t space = config_.spatial_expansions[index - 1];
  const LinearLayer layer = LinearLayer::Load(weights, "proj", in, out * time * space * space);
  return {.time = time,
          .space = space,
          .weight = layer.weight.Reshape({out, time, space, space, in}),
          .bias = layer.bias.Reshape({out, time, space, space})};
}

// Place by place in the block: its pixels lie apart in the enlarged picture.
void AutoencoderKlMochi::Expansion::Forward(FramePass& pass, int64_t t, const TensorView& frame,
                                            const TensorView& enlarged) const {
  const FramePass::Scope scope(pass);
  const int64_t height = frame.dim(1), width = frame.dim(2), channels = weight.dim(0);
  Context& context = pass.context();
  const TensorView part = pass.Allocate({1, height, width, channels});
  const TensorView part_bias = context.workspace().Allocate({channels}, bias.dtype());
  for (int64_t y = 0; y < space; ++y) {
    for (int64_t x = 0; x < space; ++x) {
      const auto of_place = [&](const ConstTensorView& view) {
        return view.Select(1, t).Select(1, y).Select(1, x);
      };
      pass.Run([&] { Copy(context, of_place(bias), part_bias); });
      ApplyToPixels(pass, {of_place(weight), part_bias}, frame, /*accumulate=*/false, part);
      pass.Run([&] {
        Copy(context, part.Select(0, 0),
             enlarged.Reshape({height, space, width, space, channels}).Select(1, y).Select(2, x));
      });
    }
  }
}

// Of the frames that the first latent frame becomes only the last belongs to the film.
void AutoencoderKlMochi::DecodeLatentFrame(FramePass& pass, bool is_first, ConstTensorView latents,
                                           const FrameSink& sink) const {
  const FramePass::Scope scope(pass);
  const TensorView frame =
      pass.Allocate({1, latents.dim(1), latents.dim(2), conv_in_.weight.dim(0)});
  ApplyToPixels(pass, conv_in_, latents, /*accumulate=*/false, frame);
  for (const FrameResidualBlock& block : blocks_in_) block.Forward(pass, frame);
  Turn turn = {.pass = pass, .sink = sink, .to_drop = is_first ? config_.temporal_scale() - 1 : 0};
  DecodeFrom(turn, 0, frame);
}

void AutoencoderKlMochi::DecodeFrom(Turn& turn, size_t level, TensorView frame) const {
  FramePass& pass = turn.pass;
  for (const FrameResidualBlock& block : levels_[level].blocks) frame = block.Forward(pass, frame);
  if (level + 1 == levels_.size()) return Finish(turn, frame);
  const Expansion& expansion = levels_[level].expansion;
  const int64_t height = frame.dim(1), width = frame.dim(2), space = expansion.space;
  const int64_t channels = expansion.weight.dim(0);
  for (int64_t t = 0; t < expansion.time; ++t) {
    const FramePass::Scope scope(pass);
    const TensorView enlarged = pass.Allocate({1, space * height, space * width, channels});
    expansion.Forward(pass, t, frame, enlarged);
    DecodeFrom(turn, level + 1, enlarged);
  }
}

void AutoencoderKlMochi::Finish(Turn& turn, const TensorView& frame) const {
  FramePass& pass = turn.pass;
  const FramePass::Scope scope(pass);
  const TensorView pixels = pass.Allocate({1, frame.dim(1), frame.dim(2), kColours}, DType::kF32);
  pass.Run([&] { Activate(pass.context(), Activation::kSilu, frame); });
  ApplyToPixels(pass, proj_out_, frame, /*accumulate=*/false, pixels);
  if (pass.is_dry()) return;
  if (turn.to_drop == 0) turn.sink(pixels);
  turn.to_drop = std::max<int64_t>(0, turn.to_drop - 1);
}

}  // namespace tamias
