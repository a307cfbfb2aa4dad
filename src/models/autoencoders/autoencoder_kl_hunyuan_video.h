// The decoder of HunyuanVideo's causal video autoencoder (Kong et al., arXiv 2412.03603; diffusers'
// AutoencoderKLHunyuanVideo): latents -> film. The network is models/autoencoders/kl_decoder.h, the
// last two enlargements also in time. Symbols: t latent frames of h x w, C latent channels; T = 4
// (t - 1) + 1 frames of H x W = f h x f w pixels, f = spatial_scale().
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

struct AutoencoderKlHunyuanVideoConfig {
  int64_t latent_channels = 16;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 512};  // finest level first
  int64_t layers_per_block = 2;  // the decoder has one residual block more per level
  int64_t norm_num_groups = 32;
  bool mid_block_add_attention = true;
  // Latents of the diffusion model z become z / scaling_factor before Decode.
  double scaling_factor = 0.476986;

  // Throws kInvalidFile or, for variants that Tamias does not have, kUnsupported.
  static AutoencoderKlHunyuanVideoConfig FromJson(const JsonObject& json);

  int64_t spatial_scale() const { return int64_t{1} << (block_out_channels.size() - 1); }
  int64_t temporal_scale() const { return 4; }
};

// How films are cut so that memory stays bounded; the numbers are diffusers'.
struct AutoencoderKlHunyuanVideoTiling {
  // Films of more latent frames are cut into tiles of tile_frames + 1, of which frame_overlap + 1
  // are shared with the next: the first frame of a tile only prepares the others.
  int64_t tile_frames = 4;
  int64_t frame_overlap = 1;  // less than tile_frames
  KlTiling space = {.tile_size = 32, .overlap = 8};
};

class AutoencoderKlHunyuanVideo {
 public:
  // Throws when a tensor is missing or has another shape.
  AutoencoderKlHunyuanVideo(const AutoencoderKlHunyuanVideoConfig& config, const Weights& weights,
                            const AutoencoderKlHunyuanVideoTiling& tiling = {});

  // latents [t, h, w, C] f32 channels-last, contiguous, t > 0 -> T frames for the sink, tile by
  // tile. after_piece is called NumPieces(t, h, w) times.
  //
  // Long films are always decoded in tiles of frames that are blended linearly, as diffusers does
  // by default. Tiles in space, as after vae.enable_tiling(), begin only where a tile of whole
  // frames needs more than tiling.space.untiled_bytes: the tiled film is not the untiled one (each
  // tile is normalised by its own statistics).
  void Decode(Context& context, ConstTensorView latents, const FrameSink& sink,
              const std::function<void()>& after_piece = {}) const;

  int64_t NumPieces(int64_t frames, int64_t height, int64_t width) const;
  // Peak workspace of Decode; does not grow with the number of frames beyond one tile.
  size_t PlanBytes(int64_t frames, int64_t height, int64_t width, int threads = 0) const;

  const AutoencoderKlHunyuanVideoConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  int64_t FrameStep() const { return tiling_.tile_frames - tiling_.frame_overlap; }
  // The tiles in time of a film, and the latent frames of the one that begins at `begin`.
  int64_t NumFrameTiles(int64_t frames) const;
  int64_t TileFrames(int64_t begin, int64_t frames) const;
  // Frames that one tile fades into the next.
  int64_t FadedFrames() const { return config_.temporal_scale() * tiling_.frame_overlap; }

  AutoencoderKlHunyuanVideoConfig config_;
  AutoencoderKlHunyuanVideoTiling tiling_;
  Weights weights_;  // keeps the files mapped
  TiledKlDecoder decoder_;
};

}  // namespace tamias
