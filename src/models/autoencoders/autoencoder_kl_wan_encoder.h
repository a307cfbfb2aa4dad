// The encoder of Wan 2.1's video autoencoder (Wan team, arXiv 2503.20314; diffusers'
// AutoencoderKLWan.encode, the mode of its distribution): film -> latents, causal in time and run
// one frame after the other. Residual blocks from the finest level to the coarsest; each level but
// the last halves both sides, and some the frames after that: the first stays, of those behind it
// two become one.
// Symbols: T latent frames of h x w, C = z_dim channels; F = 1 + (T - 1) temporal_scale() frames of
// H x W = spatial_scale() (h x w) pixels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "models/autoencoders/autoencoder_kl_wan.h"
#include "models/autoencoders/halving_conv.h"
#include "models/autoencoders/wan_autoencoder_blocks.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

// Writes frame number `frame` of the film, pixels [1, H, W, 3] f32 in [-1, 1], in memory of the
// host.
using FrameSource = std::function<void(int64_t frame, TensorView pixels)>;

class AutoencoderKlWanEncoder {
 public:
  // Throws when a tensor is missing or has another shape.
  AutoencoderKlWanEncoder(const AutoencoderKlWanConfig& config, const Weights& weights);

  // F frames of the source, asked for in their order -> latents [T, h, w, C] f32, contiguous, in
  // memory of the host: the means, not yet brought to the diffusion model's scale. after_piece is
  // called T times. Frames are encoded whole.
  void Encode(Context& context, const FrameSource& source, TensorView latents,
              const std::function<void()>& after_piece = {}) const;

  // Peak workspace of Encode on the CPU, the same for any number of latent frames from four on;
  // without the operations' scratch beyond 512 latent pixels a side.
  size_t PlanBytes(int64_t frames, int64_t height, int64_t width, int threads = 0) const;

 private:
  // To the next level, where the frame is one of those that get there.
  struct Downsampler {
    HalvingConv halve;
    std::optional<CausalConv> time_conv;
    // number: of the frame at this level's rate; becomes that of the result.
    std::optional<TensorView> Forward(FramePass& pass, const TensorView& frame,
                                      int64_t& number) const;
  };
  struct Level {
    std::vector<FrameResidualBlock> blocks;
    std::optional<Downsampler> downsampler;  // but at the coarsest
  };

  // The next frame; latents: all of them, of which it may complete one. Only shapes count in a dry
  // pass. Returns whether it did.
  bool EncodeFrame(FramePass& pass, int64_t number, const FrameSource& source,
                   const TensorView& latents) const;
  // All frames of the film; in a dry pass those after which every convolution holds all that it
  // ever will.
  void EncodeFrames(FramePass& pass, const FrameSource& source, TensorView latents,
                    const std::function<void()>& after_piece) const;
  FramePass CountFrames(Context& context, TensorView latents) const;

  AutoencoderKlWanConfig config_;
  Weights weights_;  // keeps the files mapped
  CausalConv conv_in_;
  std::vector<Level> levels_;  // finest first
  WanMiddle middle_;
  FrameNorm norm_out_;
  CausalConv conv_out_;     // means and logarithms of variances, 2 C channels
  LinearLayer quant_mean_;  // [C, 2 C]: the rows of quant_conv that give the means
};

}  // namespace tamias
