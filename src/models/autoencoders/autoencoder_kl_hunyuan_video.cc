// HunyuanVideo's video decoder: see the header.
#include "models/autoencoders/autoencoder_kl_hunyuan_video.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/dry_run.h"
#include "io/json.h"
#include "models/autoencoders/autoencoder_config.h"
#include "models/config_fields.h"
#include "ops/check_tensor.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "hunyuan video autoencoder";

KlDecoderConfig NetworkOf(const AutoencoderKlHunyuanVideoConfig& config) {
  KlDecoderConfig network{.kind = ConvKind::kCausalFilm,
                          .latent_channels = config.latent_channels,
                          .out_channels = 3,
                          .block_out_channels = config.block_out_channels,
                          .enlargements = {},
                          .layers_per_block = config.layers_per_block,
                          .norm_num_groups = config.norm_num_groups,
                          .mid_block_add_attention = config.mid_block_add_attention,
                          .use_post_quant_conv = true};
  // All but the finest level enlarge in space, the last two of them in time as well.
  const size_t levels = config.block_out_channels.size();
  network.enlargements.assign(levels, Enlargement::kSpace);
  std::fill_n(network.enlargements.end() - 3, 2, Enlargement::kSpaceAndTime);
  network.enlargements.back() = Enlargement::kNone;
  return network;
}

// Refuses ratios that diffusers spreads over the levels in other ways.
void CheckRatios(const JsonObject& json, const AutoencoderKlHunyuanVideoConfig& config) {
  const auto require = [&](const char* field, int64_t fallback, int64_t expected) {
    RequireValue(json, field, std::to_string(json.IntOr(field, fallback, {1, 1 << 16})),
                 std::to_string(expected));
  };
  require("temporal_compression_ratio", 4, config.temporal_scale());
  require("spatial_compression_ratio", 8, config.spatial_scale());
}

}  // namespace

// Absent fields have the values that diffusers gives them.
AutoencoderKlHunyuanVideoConfig AutoencoderKlHunyuanVideoConfig::FromJson(const JsonObject& json) {
  AutoencoderKlHunyuanVideoConfig config;
  RefuseNull(json, {"out_channels", "latent_channels", "norm_num_groups", "block_out_channels",
                    "layers_per_block", "mid_block_add_attention", "scaling_factor",
                    "temporal_compression_ratio", "spatial_compression_ratio", "act_fn",
                    "up_block_types"});
  json.IntOr("out_channels", 3, {3, 3});
  config.latent_channels = json.IntOr("latent_channels", 16, {1, kMostAutoencoderChannels});
  config.norm_num_groups = json.IntOr("norm_num_groups", 32, {1, kMostAutoencoderChannels});
  config.block_out_channels =
      BlockOutChannels(json, config.block_out_channels, config.norm_num_groups);
  config.layers_per_block = json.IntOr("layers_per_block", 2, {1, 64});
  config.mid_block_add_attention = json.BoolOr("mid_block_add_attention", true);
  config.scaling_factor = json.FloatOr("scaling_factor", 0.476986, {1e-6, 1e6});
  const size_t levels = config.block_out_channels.size();
  if (levels < 3) {
    json.FailField("block_out_channels", fmt::format("expected 3 to 8 levels, found {}", levels));
  }
  CheckRatios(json, config);
  RequireValue(json, "act_fn", json.StringOr("act_fn", "silu"), "silu");
  const std::vector<std::string> types = json.StringArrayOr(
      "up_block_types", std::vector<std::string>(levels, "HunyuanVideoUpBlock3D"));
  for (const std::string& type : types) {
    RequireValue(json, "up_block_types", type, "HunyuanVideoUpBlock3D");
  }
  if (types.size() != levels) {
    json.FailField("up_block_types", fmt::format("expected one for each of the {} levels, found {}",
                                                 levels, types.size()));
  }
  return config;
}

AutoencoderKlHunyuanVideo::AutoencoderKlHunyuanVideo(const AutoencoderKlHunyuanVideoConfig& config,
                                                     const Weights& weights,
                                                     const AutoencoderKlHunyuanVideoTiling& tiling)
    : config_(config),
      tiling_(tiling),
      weights_(weights),
      decoder_(NetworkOf(config), weights, tiling.space) {
  TAMIAS_CHECK(0 <= tiling.frame_overlap && tiling.frame_overlap < tiling.tile_frames);
}

int64_t AutoencoderKlHunyuanVideo::NumFrameTiles(int64_t frames) const {
  if (frames <= tiling_.tile_frames) return 1;
  // A last tile of a single latent frame would add nothing.
  return (frames - 1 + FrameStep() - 1) / FrameStep();
}

int64_t AutoencoderKlHunyuanVideo::TileFrames(int64_t begin, int64_t frames) const {
  return std::min(tiling_.tile_frames + 1, frames - begin);
}

int64_t AutoencoderKlHunyuanVideo::NumPieces(int64_t frames, int64_t height, int64_t width) const {
  const std::optional<TileGrid> grid = decoder_.GridFor(TileFrames(0, frames), height, width);
  return NumFrameTiles(frames) * (grid ? grid->rows() * grid->columns() : 1);
}

size_t AutoencoderKlHunyuanVideo::PlanBytes(int64_t frames, int64_t height, int64_t width,
                                            int threads) const {
  return PlannedWorkspace({}, threads, [&](Context& context) {
    Decode(context,
           TensorView::WithoutMemory({frames, height, width, config_.latent_channels}, DType::kF32,
                                     {}),
           {});
  });
}

void AutoencoderKlHunyuanVideo::Decode(Context& context, ConstTensorView latents,
                                       const FrameSink& sink,
                                       const std::function<void()>& after_piece) const {
  CheckTensor(kName, "latents", latents, DType::kF32, {-1, -1, -1, config_.latent_channels});
  CheckContiguous(kName, "latents", latents);
  if (latents.NumElements() == 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: latents: expected at least one value, found {}", kName,
         latents.shape().ToString());
  }
  Workspace& host = context.host_workspace();
  Workspace::Scope scope(host);
  const int64_t frames = latents.dim(0), height = latents.dim(1), width = latents.dim(2);
  const int64_t num_tiles = NumFrameTiles(frames), scale = config_.temporal_scale();
  const std::optional<TileGrid> grid = decoder_.GridFor(TileFrames(0, frames), height, width);
  const auto shape_of = [&](int64_t latent_frames) {
    return decoder_.network().OutputShape(latent_frames, height, width);
  };
  const TensorView pixels = host.Allocate(shape_of(TileFrames(0, frames)), DType::kF32);
  TensorView room, last_frames;  // of the tile before
  if (num_tiles > 1) {
    Shape shape = pixels.shape();
    shape[0] = FadedFrames();
    room = host.Allocate(shape, DType::kF32);
  }
  for (int64_t i = 0; i < num_tiles; ++i) {
    const int64_t begin = i * FrameStep(), tile_frames = TileFrames(begin, frames);
    TensorView tile = pixels.Slice(0, 0, shape_of(tile_frames)[0]);
    decoder_.Decode(context, latents.Slice(0, begin, begin + tile_frames), grid, tile, after_piece);
    if (context.IsPlanning()) return;  // the first tile of frames is the longest
    if (i > 0) {
      tile = tile.Slice(0, 1, tile.dim(0));
      FadeTiles(last_frames, 0, FadedFrames(), tile);
    }
    const bool is_last = i + 1 == num_tiles;
    const int64_t kept = is_last ? tile.dim(0) : scale * FrameStep() + (i == 0 ? 1 : 0);
    if (!is_last) {
      last_frames = room.Slice(0, 0, std::min(FadedFrames(), tile.dim(0)));
      CopyOnHost(tile.Slice(0, tile.dim(0) - last_frames.dim(0), tile.dim(0)), last_frames);
    }
    sink(tile.Slice(0, 0, kept));
  }
}

}  // namespace tamias
