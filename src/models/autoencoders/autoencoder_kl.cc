// The KL autoencoder's decoder: see the header.
#include "models/autoencoders/autoencoder_kl.h"

#include <optional>

#include "base/dry_run.h"
#include "io/json.h"
#include "models/autoencoders/autoencoder_config.h"
#include "models/config_fields.h"
#include "ops/check_tensor.h"

namespace tamias {
namespace {

KlDecoderConfig NetworkOf(const AutoencoderKlConfig& config) {
  KlDecoderConfig network{.kind = ConvKind::kPicture,
                          .latent_channels = config.latent_channels,
                          .out_channels = config.out_channels,
                          .block_out_channels = config.block_out_channels,
                          .enlargements = {},
                          .layers_per_block = config.layers_per_block,
                          .norm_num_groups = config.norm_num_groups,
                          .mid_block_add_attention = config.mid_block_add_attention,
                          .use_post_quant_conv = config.use_post_quant_conv};
  network.enlargements.assign(config.block_out_channels.size(), Enlargement::kSpace);
  network.enlargements.back() = Enlargement::kNone;
  return network;
}

}  // namespace

// Absent fields have the values that diffusers gives them.
AutoencoderKlConfig AutoencoderKlConfig::FromJson(const JsonObject& json) {
  AutoencoderKlConfig config;
  RefuseNull(json, {"latent_channels", "out_channels", "layers_per_block", "norm_num_groups",
                    "block_out_channels", "mid_block_add_attention", "use_post_quant_conv",
                    "scaling_factor", "act_fn", "up_block_types"});
  config.latent_channels = json.IntOr("latent_channels", 4, {1, kMostAutoencoderChannels});
  config.out_channels = json.IntOr("out_channels", 3, {1, kMostAutoencoderChannels});
  config.layers_per_block = json.IntOr("layers_per_block", 1, {1, 64});
  config.norm_num_groups = json.IntOr("norm_num_groups", 32, {1, kMostAutoencoderChannels});
  config.block_out_channels = BlockOutChannels(json, {64}, config.norm_num_groups);
  config.mid_block_add_attention = json.BoolOr("mid_block_add_attention", true);
  config.use_post_quant_conv = json.BoolOr("use_post_quant_conv", true);
  config.scaling_factor = json.FloatOr("scaling_factor", 0.18215, {1e-6, 1e6});
  config.shift_factor = json.FloatOr("shift_factor", 0, {-1e6, 1e6});
  RequireValue(json, "act_fn", json.StringOr("act_fn", "silu"), "silu");
  for (const std::string& type : json.StringArrayOr("up_block_types", {})) {
    RequireValue(json, "up_block_types", type, "UpDecoderBlock2D");
  }
  return config;
}

AutoencoderKl::AutoencoderKl(const AutoencoderKlConfig& config, const Weights& weights,
                             const KlTiling& tiling)
    : config_(config), weights_(weights), decoder_(NetworkOf(config), weights, tiling) {}

int64_t AutoencoderKl::NumTiles(int64_t height, int64_t width) const {
  const std::optional<TileGrid> grid = decoder_.GridFor(1, height, width);
  return grid ? grid->rows() * grid->columns() : 1;
}

size_t AutoencoderKl::PlanBytes(int64_t height, int64_t width, const Placement& placement,
                                int threads) const {
  const int64_t scale = config_.spatial_scale();
  return PlannedWorkspace(placement, threads, [&](Context& context) {
    const auto on_host = [](const Shape& shape) {
      return TensorView::WithoutMemory(shape, DType::kF32, {});
    };
    Decode(context, on_host({1, height, width, config_.latent_channels}),
           on_host({1, scale * height, scale * width, config_.out_channels}));
  });
}

void AutoencoderKl::Decode(Context& context, ConstTensorView latents, TensorView pixels,
                           const std::function<void()>& after_tile) const {
  const int64_t scale = config_.spatial_scale();
  CheckTensor("autoencoder", "latents", latents, DType::kF32,
              {-1, -1, -1, config_.latent_channels});
  CheckContiguous("autoencoder", "latents", latents);
  CheckTensor(
      "autoencoder", "pixels", pixels, DType::kF32,
      {latents.dim(0), scale * latents.dim(1), scale * latents.dim(2), config_.out_channels});
  CheckContiguous("autoencoder", "pixels", pixels);
  if (pixels.NumElements() == 0) return;
  const std::optional<TileGrid> grid = decoder_.GridFor(1, latents.dim(1), latents.dim(2));
  for (int64_t b = 0; b < latents.dim(0); ++b) {
    decoder_.Decode(context, latents.Slice(0, b, b + 1), grid, pixels.Slice(0, b, b + 1),
                    after_tile);
  }
}

void AutoencoderKl::Decode(Context& context, ConstTensorView latents, const FrameSink& sink,
                           const std::function<void()>& after_tile) const {
  Workspace& host = context.host_workspace();
  Workspace::Scope scope(host);
  const int64_t scale = config_.spatial_scale();
  const TensorView pixels = host.Allocate(
      {1, scale * latents.dim(1), scale * latents.dim(2), config_.out_channels}, DType::kF32);
  Decode(context, latents, pixels, after_tile);
  sink(pixels);
}

}  // namespace tamias
