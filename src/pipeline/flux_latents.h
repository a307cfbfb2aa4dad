// Latents of FLUX.1: noise [C, h, w] in the VAE's resolution, packed as tokens of 2 x 2 latent
// pixels [h/2 * w/2, 4 C] in row order, and the rotary coordinates (0, row, column) of the tokens.
#pragma once

#include <cstdint>

#include "base/tensor.h"

namespace tamias {

struct FluxLatentShape {
  int64_t channels = 0;  // C of the VAE
  int64_t height = 0;    // latent pixels, even
  int64_t width = 0;

  int64_t rows() const { return height / 2; }
  int64_t columns() const { return width / 2; }
  int64_t tokens() const { return rows() * columns(); }
  int64_t token_channels() const { return 4 * channels; }
};

// Standard normal noise of one picture of a batch, packed [1, tokens, 4 C]: the same numbers as
// FluxPipeline's prepare_latents with torch.Generator("cpu").manual_seed(seed) and num_images
// pictures.
Tensor FluxNoise(const FluxLatentShape& shape, uint64_t seed, int image, int num_images);

// packed [1, tokens, 4 C] -> channels-last [1, height, width, C], each value divided by
// scaling_factor and moved by shift_factor: what the VAE decodes.
void UnpackFluxLatents(const FluxLatentShape& shape, ConstTensorView packed, double scaling_factor,
                       double shift_factor, TensorView unpacked);

// Coordinates [text_tokens + tokens, 3]: zeros for text, (0, row, column) for image tokens.
Tensor FluxPositions(const FluxLatentShape& shape, int64_t text_tokens);

}  // namespace tamias
