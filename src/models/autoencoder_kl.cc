// The KL autoencoder's decoder: see the header.
#include "models/autoencoder_kl.h"

#include <algorithm>

#include "base/check.h"
#include "io/json.h"
#include "models/tile_blending.h"
#include "ops/check_tensor.h"

namespace tamias {
namespace {

void RequireValue(const JsonObject& json, std::string_view field, std::string_view found,
                  std::string_view expected) {
  if (found != expected) {
    Fail(ErrorCode::kUnsupported, "{}: field '{}': expected {}, found {}", json.source(), field,
         expected, found);
  }
}

// Every channel count must be a multiple of the number of groups.
void CheckGroups(const JsonObject& json, const AutoencoderKlConfig& config) {
  for (const int64_t channels : config.block_out_channels) {
    if (channels % config.norm_num_groups != 0) {
      json.FailField("block_out_channels",
                     fmt::format("expected multiples of norm_num_groups ({}), found {}",
                                 config.norm_num_groups, channels));
    }
  }
}

}  // namespace

// Absent fields have the values that diffusers gives them.
AutoencoderKlConfig AutoencoderKlConfig::FromJson(const JsonObject& json) {
  constexpr int64_t kMostChannels = 1 << 16, kMostLevels = 8;
  AutoencoderKlConfig config;
  config.latent_channels = json.IntOr("latent_channels", 4, {1, kMostChannels});
  config.out_channels = json.IntOr("out_channels", 3, {1, kMostChannels});
  config.block_out_channels = json.IntArrayOr("block_out_channels", {64}, {1, kMostChannels});
  config.layers_per_block = json.IntOr("layers_per_block", 1, {1, 64});
  config.norm_num_groups = json.IntOr("norm_num_groups", 32, {1, kMostChannels});
  config.mid_block_add_attention = json.BoolOr("mid_block_add_attention", true);
  config.use_post_quant_conv = json.BoolOr("use_post_quant_conv", true);
  config.scaling_factor = json.FloatOr("scaling_factor", 0.18215, {1e-6, 1e6});
  config.shift_factor = json.FloatOr("shift_factor", 0, {-1e6, 1e6});
  const auto levels = static_cast<int64_t>(config.block_out_channels.size());
  if (levels < 1 || levels > kMostLevels) {
    json.FailField("block_out_channels",
                   fmt::format("expected 1 to {} levels, found {}", kMostLevels, levels));
  }
  CheckGroups(json, config);
  RequireValue(json, "act_fn", json.StringOr("act_fn", "silu"), "silu");
  for (const std::string& type : json.StringArrayOr("up_block_types", {})) {
    RequireValue(json, "up_block_types", type, "UpDecoderBlock2D");
  }
  return config;
}

AutoencoderKl::AutoencoderKl(const AutoencoderKlConfig& config, const Weights& weights,
                             const AutoencoderKlTiling& tiling)
    : config_(config), tiling_(tiling), weights_(weights) {
  TAMIAS_CHECK(0 <= tiling.overlap && tiling.overlap < tiling.tile_size);
  const int64_t latent = config.latent_channels;
  if (config.use_post_quant_conv) {
    post_quant_conv_ = ConvLayer::Load(weights, "post_quant_conv", latent, latent, 1);
  }
  const Weights decoder = weights.Sub("decoder"), mid = decoder.Sub("mid_block");
  int64_t channels = config.block_out_channels.back();
  conv_in_ = ConvLayer::Load(decoder, "conv_in", latent, channels, 3);
  mid_block1_.emplace(mid.Sub("resnets", 0), channels, channels);
  if (config.mid_block_add_attention) mid_attention_.emplace(mid.Sub("attentions", 0), channels);
  mid_block2_.emplace(mid.Sub("resnets", 1), channels, channels);
  const auto levels = static_cast<int64_t>(config.block_out_channels.size());
  for (int64_t i = 0; i < levels; ++i) {
    const int64_t out = config.block_out_channels[static_cast<size_t>(levels - 1 - i)];
    levels_.emplace_back(decoder.Sub("up_blocks", i), channels, out, config.layers_per_block + 1,
                         i + 1 < levels);
    channels = out;
  }
  norm_out_ = NormLayer::Load(decoder, "conv_norm_out", channels);
  conv_out_ = ConvLayer::Load(decoder, "conv_out", channels, config.out_channels, 3);
}

void AutoencoderKl::Forward(DecoderPass& pass, const Shape& shape, ConstTensorView latents,
                            TensorView pixels) const {
  const int64_t height = shape[1], width = shape[2];
  std::optional<Picture> quantised;
  if (post_quant_conv_) {
    quantised = pass.Allocate(height, width, config_.latent_channels);
    pass.Convolve(*post_quant_conv_, shape, latents, pass.View(*quantised));
    latents = pass.View(*quantised);
  }
  Picture picture = pass.Allocate(height, width, conv_in_.weight.dim(0));
  pass.Convolve(conv_in_, shape, latents, pass.View(picture));
  if (quantised) pass.Free(*quantised);
  picture = mid_block1_->Forward(pass, picture);
  if (mid_attention_) mid_attention_->Forward(pass, picture);
  picture = mid_block2_->Forward(pass, picture);
  for (const DecoderLevel& level : levels_) picture = level.Forward(pass, picture);
  pass.NormConvolve(norm_out_, conv_out_, picture, /*accumulate=*/false, pixels);
  pass.Free(picture);
}

DecoderMemory AutoencoderKl::PlanWhole(int64_t height, int64_t width, bool plans_scratch) const {
  Context context;
  DecoderPass pass(context, config_.norm_num_groups, plans_scratch);
  Forward(pass, {1, height, width, config_.latent_channels}, {}, {});
  return pass.memory();
}

bool AutoencoderKl::IsTiled(int64_t height, int64_t width) const {
  constexpr int64_t kLongestInTiles = 16;
  const int64_t side = std::max(height, width);
  if (side <= tiling_.tile_size) return false;
  return side > kLongestInTiles * tiling_.tile_size ||
         PlanWhole(height, width, /*plans_scratch=*/false).total() > tiling_.untiled_bytes;
}

int64_t AutoencoderKl::NumTiles(int64_t height, int64_t width) const {
  if (!IsTiled(height, width)) return 1;
  const TileGrid grid(height, width, tiling_.tile_size, tiling_.overlap);
  return grid.rows() * grid.columns();
}

size_t AutoencoderKl::PlanBytes(int64_t height, int64_t width) const {
  if (!IsTiled(height, width)) return PlanWhole(height, width, true).total();
  const TileGrid grid(height, width, tiling_.tile_size, tiling_.overlap);
  // A tile at the lower or right edge may be narrower; the first is the largest.
  return TileBlender::WorkspaceBytes(grid, config_.scale_factor(), config_.out_channels) +
         static_cast<size_t>(grid.TileHeight(0) * grid.TileWidth(0) * config_.latent_channels) *
             sizeof(float) +
         PlanWhole(grid.TileHeight(0), grid.TileWidth(0), true).total();
}

void AutoencoderKl::DecodeWhole(Context& context, ConstTensorView latents,
                                TensorView pixels) const {
  Workspace::Scope scope(context.workspace());
  const DecoderMemory memory = PlanWhole(latents.dim(1), latents.dim(2), /*plans_scratch=*/false);
  DecoderPass pass(context, config_.norm_num_groups, memory);
  Forward(pass, latents.shape(), latents, pixels);
}

void AutoencoderKl::DecodeTiled(Context& context, ConstTensorView latents, TensorView pixels,
                                const std::function<void()>& after_tile) const {
  Workspace::Scope scope(context.workspace());
  const TileGrid grid(latents.dim(1), latents.dim(2), tiling_.tile_size, tiling_.overlap);
  TileBlender blender(context, grid, config_.scale_factor(), config_.out_channels);
  for (int64_t row = 0; row < grid.rows(); ++row) {
    for (int64_t column = 0; column < grid.columns(); ++column) {
      Workspace::Scope tile_scope(context.workspace());
      const int64_t top = grid.Begin(row), left = grid.Begin(column);
      const ConstTensorView window = latents.Slice(1, top, top + grid.TileHeight(row))
                                         .Slice(2, left, left + grid.TileWidth(column));
      const TensorView tile = context.workspace().Allocate(window.shape());
      CopyTensor(window, tile);
      DecodeWhole(context, tile, blender.Tile(row, column));
      blender.Blend(row, column, pixels);
      if (after_tile) after_tile();
    }
  }
}

void AutoencoderKl::Decode(Context& context, ConstTensorView latents, TensorView pixels,
                           const std::function<void()>& after_tile) const {
  const int64_t scale = config_.scale_factor();
  CheckTensor("autoencoder", "latents", latents, DType::kF32,
              {-1, -1, -1, config_.latent_channels});
  CheckContiguous("autoencoder", "latents", latents);
  CheckTensor(
      "autoencoder", "pixels", pixels, DType::kF32,
      {latents.dim(0), scale * latents.dim(1), scale * latents.dim(2), config_.out_channels});
  CheckContiguous("autoencoder", "pixels", pixels);
  if (pixels.NumElements() == 0) return;
  const bool is_tiled = IsTiled(latents.dim(1), latents.dim(2));
  for (int64_t b = 0; b < latents.dim(0); ++b) {
    const ConstTensorView picture = latents.Slice(0, b, b + 1);
    const TensorView target = pixels.Slice(0, b, b + 1);
    if (is_tiled) {
      DecodeTiled(context, picture, target, after_tile);
    } else {
      DecodeWhole(context, picture, target);
      if (after_tile) after_tile();
    }
  }
}

}  // namespace tamias
