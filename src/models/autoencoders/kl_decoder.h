// The decoder network of the KL autoencoders of latent diffusion (Rombach et al., arXiv 2112.10752)
// for pictures and, causal in time, for films (HunyuanVideo, Kong et al., arXiv 2412.03603):
// residual blocks from the coarsest level to the finest, with an attention block at the coarsest,
// each level but the last enlarging. The first frame of a film stands alone; every other one
// becomes two at each level that enlarges in time.
// Symbols: t latent frames of h x w, C latent channels; T frames of H x W pixels.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "models/autoencoders/autoencoder_blocks.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct KlDecoderConfig {
  ConvKind kind = ConvKind::kPicture;
  int64_t latent_channels = 16;
  int64_t out_channels = 3;
  std::vector<int64_t> block_out_channels;  // finest level first
  std::vector<Enlargement> enlargements;    // by level, coarsest first
  int64_t layers_per_block = 2;             // the decoder has one residual block more per level
  int64_t norm_num_groups = 32;
  bool mid_block_add_attention = true;
  bool use_post_quant_conv = false;
};

class KlDecoder {
 public:
  // Reads "decoder." and "post_quant_conv."; throws when a tensor is missing or has another shape.
  KlDecoder(const KlDecoderConfig& config, const Weights& weights);

  // [T, H, W, out_channels] of latents [t, h, w].
  Shape OutputShape(int64_t frames, int64_t height, int64_t width) const;
  // The buffers of a pass, in the type of the context's activations.
  DecoderBuffers MeasureBuffers(Context& context, int64_t frames, int64_t height,
                                int64_t width) const;
  // latents [t, h, w, C] f32 -> pixels [T, H, W, out_channels] f32, both contiguous and in memory
  // of the host, whatever the context's device; the weights lie on the device.
  void Decode(Context& context, ConstTensorView latents, TensorView pixels) const;

 private:
  // In a measuring pass latents and pixels are empty and only the shape [t, h, w, C] counts.
  void Forward(DecoderPass& pass, const Shape& shape, ConstTensorView latents,
               TensorView pixels) const;

  KlDecoderConfig config_;
  std::optional<ConvLayer> post_quant_conv_;
  ConvLayer conv_in_;
  std::optional<ResidualBlock> mid_block1_, mid_block2_;
  std::optional<PixelAttention> mid_attention_;
  std::vector<DecoderLevel> levels_;  // coarsest first
  NormLayer norm_out_;
  ConvLayer conv_out_;
};

}  // namespace tamias
