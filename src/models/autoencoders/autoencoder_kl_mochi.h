// The decoder of Mochi 1's video autoencoder (AsymmVAE, Genmo 2024; diffusers' AutoencoderKLMochi):
// latents -> film, causal in time and decoded one latent frame after the other. Residual blocks
// from the coarsest level to the finest, with a linear layer between levels that turns each pixel
// into a block of frames, rows and columns. Normalisation is by frame, edges and the film's
// beginning are padded by repetition; of the first latent frame's pictures only the last is kept.
// Symbols: T latent frames of h x w, C latent channels; F = 1 + (T - 1) temporal_scale() frames of
// H x W = spatial_scale() (h x w) pixels.
#pragma once

#include <cstdint>
#include <vector>

#include "models/autoencoders/frame_blocks.h"
#include "models/autoencoders/frame_decoder.h"
#include "models/autoencoders/frame_pass.h"
#include "models/autoencoders/frame_sink.h"
#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct AutoencoderKlMochiConfig {
  int64_t latent_channels = 12;
  std::vector<int64_t> block_out_channels = {128, 256, 512, 768};  // finest level first
  // Residual blocks by level, finest first, and before the coarsest level.
  std::vector<int64_t> layers_per_block = {3, 3, 4, 6, 3};
  std::vector<int64_t> temporal_expansions = {1, 2, 3};  // between levels, finest first
  std::vector<int64_t> spatial_expansions = {2, 2, 2};
  // Latents of the diffusion model z become z * latents_std / scaling_factor + latents_mean before
  // Decode, or z / scaling_factor where the statistics are absent (empty).
  std::vector<double> latents_mean, latents_std;  // [latent_channels]
  double scaling_factor = 1;

  // Throws kInvalidFile or, for variants that Tamias does not have, kUnsupported.
  static AutoencoderKlMochiConfig FromJson(const JsonObject& json);

  // Frames per latent frame after the first, and pixels per latent pixel along one side.
  int64_t temporal_scale() const;
  int64_t spatial_scale() const;
};

class AutoencoderKlMochi : public FrameDecoder {
 public:
  // Throws when a tensor is missing or has another shape.
  AutoencoderKlMochi(const AutoencoderKlMochiConfig& config, const Weights& weights,
                     const FrameTiling& tiling = {});

  const AutoencoderKlMochiConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  // One pixel of C channels -> time x space x space pixels of O channels.
  struct Expansion {
    int64_t time = 1, space = 1;
    ConstTensorView weight;  // [O, time, space, space, C]
    ConstTensorView bias;    // [O, time, space, space]

    // The t-th of the frames that [1, h, w, C] becomes: [1, space h, space w, O].
    void Forward(FramePass& pass, int64_t t, const TensorView& frame,
                 const TensorView& enlarged) const;
  };
  struct Level {
    std::vector<FrameResidualBlock> blocks;
    Expansion expansion;  // but at the finest
  };
  // One latent frame's way through the decoder.
  struct Turn {
    FramePass& pass;
    const FrameSink& sink;
    int64_t to_drop;  // frames before the next one that is kept
  };

  Expansion LoadExpansion(const Weights& weights, size_t index) const;
  void DecodeLatentFrame(FramePass& pass, bool is_first, ConstTensorView latents,
                         const FrameSink& sink) const override;
  // From the input of a level on; each frame that the level makes goes all the way to the sink
  // before the next.
  void DecodeFrom(Turn& turn, size_t level, TensorView frame) const;
  void Finish(Turn& turn, const TensorView& frame) const;

  AutoencoderKlMochiConfig config_;
  Weights weights_;  // keeps the files mapped
  LinearLayer conv_in_;
  std::vector<FrameResidualBlock> blocks_in_;
  std::vector<Level> levels_;  // coarsest first
  LinearLayer proj_out_;
};

}  // namespace tamias
