#include "pipeline/flux_latents.h"

#include <vector>

#include "base/check.h"
#include "base/random.h"

namespace tamias {
namespace {

// Calls body(token, packed channel, latent channel, y, x) for each latent value: token (r, c) holds
// latent pixels (2 r + i, 2 c + j), its channels ordered [C, i, j].
template <typename Body>
void ForEachLatent(const FluxLatentShape& shape, const Body& body) {
  for (int64_t row = 0; row < shape.rows(); ++row) {
    for (int64_t column = 0; column < shape.columns(); ++column) {
      for (int64_t part = 0; part < shape.token_channels(); ++part) {
        body(row * shape.columns() + column, part, part / 4, 2 * row + part / 2 % 2,
             2 * column + part % 2);
      }
    }
  }
}

}  // namespace

Tensor FluxNoise(const FluxLatentShape& shape, uint64_t seed, int image, int num_images) {
  const int64_t count = shape.channels * shape.height * shape.width;
  // One stream for all pictures: the transform of the last block depends on the total length.
  std::vector<float> noise(static_cast<size_t>(count * num_images));
  TorchNormal(seed, noise);
  const float* values = noise.data() + image * count;
  Tensor packed({1, shape.tokens(), shape.token_channels()}, DType::kF32);
  ForEachLatent(shape, [&, out = packed.data<float>()](int64_t token, int64_t part, int64_t channel,
                                                       int64_t y, int64_t x) {
    out[token * shape.token_channels() + part] =
        values[(channel * shape.height + y) * shape.width + x];
  });
  return packed;
}

void UnpackFluxLatents(const FluxLatentShape& shape, ConstTensorView packed, double scaling_factor,
                       double shift_factor, TensorView unpacked) {
  TAMIAS_CHECK(packed.IsContiguous() && unpacked.IsContiguous());
  TAMIAS_CHECK(unpacked.NumElements() == packed.NumElements());
  const float* in = packed.data<float>();
  float* out = unpacked.data<float>();
  ForEachLatent(shape, [&](int64_t token, int64_t part, int64_t channel, int64_t y, int64_t x) {
    const double value = in[token * shape.token_channels() + part];
    out[(y * shape.width + x) * shape.channels + channel] =
        static_cast<float>(value / scaling_factor + shift_factor);
  });
}

Tensor FluxPositions(const FluxLatentShape& shape, int64_t text_tokens) {
  Tensor positions = Tensor::Zeros({text_tokens + shape.tokens(), 3});
  float* row = positions.data<float>() + 3 * text_tokens;
  for (int64_t y = 0; y < shape.rows(); ++y) {
    for (int64_t x = 0; x < shape.columns(); ++x, row += 3) {
      row[1] = static_cast<float>(y);
      row[2] = static_cast<float>(x);
    }
  }
  return positions;
}

}  // namespace tamias
