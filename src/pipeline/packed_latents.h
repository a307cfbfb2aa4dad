// Latents as the transformers take them: noise [C, T, h, w] in the VAE's resolution, packed as
// tokens of patch_time x patch x patch latent pixels, [N, C patch_time patch^2] in row order
// (time, row, column), a token's channels ordered (C, time, row, column). Pictures have T = 1.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tamias/random.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/tensor.h"

namespace tamias {

struct LatentShape {
  int64_t channels = 0;  // C of the VAE
  int64_t frames = 1;    // T latent frames, a multiple of patch_time
  int64_t height = 0;    // latent pixels, a multiple of patch
  int64_t width = 0;     // likewise
  int64_t patch = 2;
  int64_t patch_time = 1;

  TokenGrid grid() const { return {frames / patch_time, height / patch, width / patch}; }
  int64_t tokens() const { return grid().size(); }
  int64_t token_channels() const { return channels * patch_time * patch * patch; }
  int64_t size() const { return channels * frames * height * width; }
};

// What a VAE does to its latents before the diffusion model sees them, undone channel by channel:
// latent * scale[c] + offset[c].
struct LatentScaling {
  std::vector<double> scale;   // C numbers
  std::vector<double> offset;  // C numbers
  static LatentScaling Uniform(int64_t channels, double scale, double offset = 0);
};

// Standard normal noise of one picture or film of a batch, packed [1, N, C patch_time patch^2]: the
// same numbers as diffusers' randn_tensor gives, call by call, for the whole batch with
// torch.Generator("cpu").manual_seed(seed).
class NoiseStream {
 public:
  NoiseStream(const LatentShape& shape, uint64_t seed, int image, int num_images);

  Tensor NextLatents();  // drawn as [num_images, C, T, h, w]
  Tensor NextPacked();   // drawn as [num_images, N, C patch_time patch^2]

  // What a call needs at one time, with what it returns.
  static size_t Bytes(const LatentShape& shape, int num_images);

 private:
  // The next tensor, of the whole batch: the transform of its last block depends on its length.
  std::vector<float> Draw();

  LatentShape shape_;
  int image_;
  int num_images_;
  TorchGenerator generator_;
};

// packed [1, N, C patch_time patch^2] -> channels-last [T, h, w, C], scaled back: what the VAE
// decodes.
void UnpackLatents(const LatentShape& shape, ConstTensorView packed, const LatentScaling& scaling,
                   TensorView unpacked);

// The other way round, unscaled: channels-last [T, h, w, C] -> packed [1, N, C patch_time patch^2].
Tensor PackLatents(const LatentShape& shape, ConstTensorView unpacked);

// Rotary coordinates [n, 3], (time, row, column), of n tokens given by their row-order numbers.
Tensor TokenPositions(const LatentShape& shape, std::span<const int32_t> tokens);

}  // namespace tamias
