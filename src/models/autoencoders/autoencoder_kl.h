// The decoder of the KL autoencoder of latent diffusion (Rombach et al., arXiv 2112.10752;
// diffusers' AutoencoderKL): latents -> picture. Convolutional residual blocks from the coarsest
// level to the finest, each level but the last enlarging twofold.
// Symbols: B batch, C latent channels, h x w latents, H x W = f h x f w pixels, f =
// spatial_scale().
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "models/autoencoders/frame_sink.h"
#include "models/autoencoders/tiled_kl_decoder.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct AutoencoderKlConfig {
  int64_t latent_channels = 16;
  int64_t out_channels = 3;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 512};  // finest level first
  int64_t layers_per_block = 2;  // the decoder has one residual block more per level
  int64_t norm_num_groups = 32;
  bool mid_block_add_attention = true;
  bool use_post_quant_conv = false;
  // Latents of the diffusion model z become (z / scaling_factor) + shift_factor before Decode.
  double scaling_factor = 0.3611;
  double shift_factor = 0.1159;

  // Throws kInvalidFile or, for variants that Tamias does not have, kUnsupported.
  static AutoencoderKlConfig FromJson(const JsonObject& json);

  // Pixels per latent pixel, along one side, and frames per latent frame.
  int64_t temporal_scale() const { return 1; }
  int64_t spatial_scale() const { return int64_t{1} << (block_out_channels.size() - 1); }
};

class AutoencoderKl {
 public:
  // Throws when a tensor is missing or has another shape.
  AutoencoderKl(const AutoencoderKlConfig& config, const Weights& weights,
                const KlTiling& tiling = {});

  // latents [B, h, w, C] f32 channels-last, contiguous -> pixels [B, H, W, out_channels] f32,
  // contiguous, about [-1, 1]; both in memory of the host, the weights on the context's device.
  // after_tile is called NumTiles(h, w) times per picture.
  //
  // A picture that needs more than tiling.untiled_bytes is decoded in overlapping tiles that are
  // blended linearly, exactly as diffusers does after vae.enable_tiling(). The tiled picture is not
  // the untiled one (each tile is normalised by its own statistics): tiling is for memory, so it
  // begins only where the exact result no longer fits.
  void Decode(Context& context, ConstTensorView latents, TensorView pixels,
              const std::function<void()>& after_tile = {}) const;

  // One picture, latents [1, h, w, C], to the sink; its pixels lie in the context's host workspace.
  void Decode(Context& context, ConstTensorView latents, const FrameSink& sink,
              const std::function<void()>& after_tile) const;

  int64_t NumTiles(int64_t height, int64_t width) const;
  // The same of films, of which a picture has one frame.
  int64_t NumPieces(int64_t /*frames*/, int64_t height, int64_t width) const {
    return NumTiles(height, width);
  }
  // What Decode takes at most of the placement's device for one picture of height x width latent
  // pixels, in bytes. The weights lie there, or are planned (Weights::CopyToDevice). threads as
  // Context.
  size_t PlanBytes(int64_t height, int64_t width, const Placement& placement = {},
                   int threads = 0) const;

  const AutoencoderKlConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  AutoencoderKlConfig config_;
  Weights weights_;  // keeps the files mapped
  TiledKlDecoder decoder_;
};

}  // namespace tamias
