// The decoder of Wan 2.1's video autoencoder (Wan team, arXiv 2503.20314; diffusers'
// AutoencoderKLWan): latents -> film, causal in time and decoded one latent frame after the other.
// Residual blocks from the coarsest level to the finest; each level but the last enlarges twofold
// in space, and some before that in time: the first latent frame stays one frame, every other
// becomes temporal_scale() frames.
// Symbols: T latent frames of h x w, C = z_dim channels; F = 1 + (T - 1) temporal_scale() frames of
// H x W = spatial_scale() (h x w) pixels.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/autoencoders/frame_blocks.h"
#include "models/autoencoders/frame_decoder.h"
#include "models/autoencoders/frame_pass.h"
#include "models/autoencoders/frame_sink.h"
#include "models/autoencoders/wan_autoencoder_blocks.h"
#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct AutoencoderKlWanConfig {
  int64_t z_dim = 16;
  int64_t base_dim = 96;  // of the encoder
  int64_t decoder_base_dim = 96;
  std::vector<int64_t> dim_mult = {1, 2, 4, 4};  // channels by level / base, finest first
  int64_t num_res_blocks = 2;                    // per level; the decoder has one more
  std::vector<bool> temporal_downsample = {false, true, true};  // by level, finest first
  // Latents of the diffusion model z become z * latents_std + latents_mean before Decode.
  std::vector<double> latents_mean, latents_std;  // [z_dim]

  // Throws kInvalidFile or, for the variant of Wan 2.2, kUnsupported.
  static AutoencoderKlWanConfig FromJson(const JsonObject& json);

  // Pixels per latent pixel along one side, and frames per latent frame after the first.
  int64_t spatial_scale() const { return int64_t{1} << (dim_mult.size() - 1); }
  int64_t temporal_scale() const;
  // By level, coarsest first.
  int64_t Channels(size_t level) const;
};

class AutoencoderKlWan : public FrameDecoder {
 public:
  // Throws when a tensor is missing or has another shape. Values beyond [-1, 1] are left to whoever
  // makes pixels of the frames.
  AutoencoderKlWan(const AutoencoderKlWanConfig& config, const Weights& weights,
                   const FrameTiling& tiling = {});

  const AutoencoderKlWanConfig& config() const { return config_; }
  // The encoder's are among them, where the checkpoint has one.
  const Weights& weights() const { return weights_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  struct Upsampler {
    std::optional<CausalConv> time_conv;  // one frame -> 2 C channels: those of two frames
    ConstTensorView weight, bias;         // [C / 2, C, 3, 3], [C / 2]
  };
  struct Level {
    std::vector<FrameResidualBlock> blocks;
    std::optional<Upsampler> upsampler;  // but at the finest
  };
  // One latent frame's way through the decoder.
  struct Turn {
    FramePass& pass;
    bool is_first;
    const FrameSink& sink;
  };

  Level LoadLevel(const Weights& weights, size_t index) const;
  void DecodeLatentFrame(FramePass& pass, bool is_first, ConstTensorView latents,
                         const FrameSink& sink) const override;
  // From the input of a level on; each frame that the level makes goes all the way to the sink
  // before the next.
  void DecodeFrom(const Turn& turn, size_t level, TensorView frame) const;
  void Enlarge(const Turn& turn, size_t level, const TensorView& frame) const;
  void Finish(const Turn& turn, const TensorView& frame) const;

  AutoencoderKlWanConfig config_;
  Weights weights_;  // keeps the files mapped
  LinearLayer post_quant_conv_;
  CausalConv conv_in_;
  WanMiddle middle_;
  std::vector<Level> levels_;  // coarsest first
  FrameNorm norm_out_;
  CausalConv conv_out_;
};

}  // namespace tamias
