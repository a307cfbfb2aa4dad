// The KL autoencoder's decoder: see the header.
#include "models/autoencoder_kl.h"

#include <algorithm>

#include "base/check.h"
#include "io/json.h"
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

KlDecoderConfig DecoderOf(const AutoencoderKlConfig& config) {
  KlDecoderConfig decoder{.kind = ConvKind::kPicture,
                          .latent_channels = config.latent_channels,
                          .out_channels = config.out_channels,
                          .block_out_channels = config.block_out_channels,
                          .enlargements = {},
                          .layers_per_block = config.layers_per_block,
                          .norm_num_groups = config.norm_num_groups,
                          .mid_block_add_attention = config.mid_block_add_attention,
                          .use_post_quant_conv = config.use_post_quant_conv};
  decoder.enlargements.assign(config.block_out_channels.size(), Enlargement::kSpace);
  decoder.enlargements.back() = Enlargement::kNone;
  return decoder;
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
    : config_(config), tiling_(tiling), weights_(weights), decoder_(DecoderOf(config), weights) {
  TAMIAS_CHECK(0 <= tiling.overlap && tiling.overlap < tiling.tile_size);
}

bool AutoencoderKl::IsTiled(int64_t height, int64_t width) const {
  constexpr int64_t kLongestInTiles = 16;
  const int64_t side = std::max(height, width);
  if (side <= tiling_.tile_size) return false;
  return side > kLongestInTiles * tiling_.tile_size ||
         decoder_.Plan(1, height, width, /*plans_scratch=*/false).total() > tiling_.untiled_bytes;
}

int64_t AutoencoderKl::NumTiles(int64_t height, int64_t width) const {
  if (!IsTiled(height, width)) return 1;
  const TileGrid grid(height, width, tiling_.tile_size, tiling_.overlap);
  return grid.rows() * grid.columns();
}

TileFormat AutoencoderKl::Format() const {
  return {.frames = 1, .scale = config_.scale_factor(), .channels = config_.out_channels};
}

size_t AutoencoderKl::PlanBytes(int64_t height, int64_t width) const {
  if (!IsTiled(height, width)) return decoder_.Plan(1, height, width, true).total();
  const TileGrid grid(height, width, tiling_.tile_size, tiling_.overlap);
  // A tile at the lower or right edge may be narrower; the first is the largest.
  return TileBlender::WorkspaceBytes(grid, Format()) +
         static_cast<size_t>(grid.TileHeight(0) * grid.TileWidth(0) * config_.latent_channels) *
             sizeof(float) +
         decoder_.Plan(1, grid.TileHeight(0), grid.TileWidth(0), true).total();
}

void AutoencoderKl::DecodeTiled(Context& context, ConstTensorView latents, TensorView pixels,
                                const std::function<void()>& after_tile) const {
  Workspace::Scope scope(context.workspace());
  const TileGrid grid(latents.dim(1), latents.dim(2), tiling_.tile_size, tiling_.overlap);
  TileBlender blender(context, grid, Format());
  for (int64_t row = 0; row < grid.rows(); ++row) {
    for (int64_t column = 0; column < grid.columns(); ++column) {
      Workspace::Scope tile_scope(context.workspace());
      const int64_t top = grid.Begin(row), left = grid.Begin(column);
      const ConstTensorView window = latents.Slice(1, top, top + grid.TileHeight(row))
                                         .Slice(2, left, left + grid.TileWidth(column));
      const TensorView tile = context.workspace().Allocate(window.shape());
      CopyTensor(window, tile);
      decoder_.Decode(context, tile, blender.Tile(row, column));
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
      decoder_.Decode(context, picture, target);
      if (after_tile) after_tile();
    }
  }
}

}  // namespace tamias
