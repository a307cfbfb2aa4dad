// One loop over (token, channel, time, row, column) serves noise, packing and unpacking: packed
// [1, N, C patch_time patch^2] <-> unpacked [T, h, w, C], scale and offset per channel.
#include "pipeline/packed_latents.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace tamias {
namespace {

// Calls body(packed index, channel, frame, y, x) for each latent value, in packed order.
template <typename Body>
void ForEachLatent(const LatentShape& shape, const Body& body) {
  const TokenGrid grid = shape.grid();
  int64_t index = 0;
  for (int64_t token = 0; token < grid.size(); ++token) {
    const int64_t frame = token / (grid.height * grid.width) * shape.patch_time;
    const int64_t y = token / grid.width % grid.height * shape.patch;
    const int64_t x = token % grid.width * shape.patch;
    for (int64_t channel = 0; channel < shape.channels; ++channel) {
      for (int64_t t = 0; t < shape.patch_time; ++t) {
        for (int64_t i = 0; i < shape.patch; ++i) {
          for (int64_t j = 0; j < shape.patch; ++j) {
            body(index++, channel, frame + t, y + i, x + j);
          }
        }
      }
    }
  }
}

}  // namespace

LatentScaling LatentScaling::Uniform(int64_t channels, double scale, double offset) {
  const auto count = static_cast<size_t>(channels);
  return {std::vector<double>(count, scale), std::vector<double>(count, offset)};
}

NoiseStream::NoiseStream(const LatentShape& shape, uint64_t seed, int image, int num_images)
    : shape_(shape), image_(image), num_images_(num_images), generator_(seed) {}

std::vector<float> NoiseStream::Draw() {
  std::vector<float> batch(static_cast<size_t>(shape_.size() * num_images_));
  generator_.Normal(batch);
  return batch;
}

Tensor NoiseStream::NextLatents() {
  const std::vector<float> batch = Draw();
  const float* values = batch.data() + image_ * shape_.size();
  Tensor packed({1, shape_.tokens(), shape_.token_channels()}, DType::kF32);
  ForEachLatent(shape_, [&, out = packed.host_data<float>()](int64_t index, int64_t channel,
                                                             int64_t frame, int64_t y, int64_t x) {
    const int64_t row = (channel * shape_.frames + frame) * shape_.height + y;
    out[index] = values[row * shape_.width + x];
  });
  return packed;
}

Tensor NoiseStream::NextPacked() {
  const std::vector<float> batch = Draw();
  Tensor packed({1, shape_.tokens(), shape_.token_channels()}, DType::kF32);
  std::copy_n(batch.begin() + image_ * shape_.size(), shape_.size(), packed.host_data<float>());
  return packed;
}

size_t NoiseStream::Bytes(const LatentShape& shape, int num_images) {
  return sizeof(float) * static_cast<size_t>(shape.size()) * (static_cast<size_t>(num_images) + 1);
}

void UnpackLatents(const LatentShape& shape, ConstTensorView packed, const LatentScaling& scaling,
                   TensorView unpacked) {
  TAMIAS_CHECK(packed.IsContiguous() && unpacked.IsContiguous());
  TAMIAS_CHECK(packed.NumElements() == shape.size() && unpacked.NumElements() == shape.size());
  TAMIAS_CHECK(static_cast<int64_t>(scaling.scale.size()) == shape.channels);
  const float* in = packed.host_data<float>();
  float* out = unpacked.host_data<float>();
  ForEachLatent(shape, [&](int64_t index, int64_t channel, int64_t frame, int64_t y, int64_t x) {
    const auto c = static_cast<size_t>(channel);
    const double value = in[index] * scaling.scale[c] + scaling.offset[c];
    out[((frame * shape.height + y) * shape.width + x) * shape.channels + channel] =
        static_cast<float>(value);
  });
}

Tensor PackLatents(const LatentShape& shape, ConstTensorView unpacked) {
  TAMIAS_CHECK(unpacked.IsContiguous() && unpacked.NumElements() == shape.size());
  Tensor packed({1, shape.tokens(), shape.token_channels()}, DType::kF32);
  ForEachLatent(shape, [&, in = unpacked.host_data<float>(), out = packed.host_data<float>()](
                           int64_t index, int64_t channel, int64_t frame, int64_t y, int64_t x) {
    out[index] = in[((frame * shape.height + y) * shape.width + x) * shape.channels + channel];
  });
  return packed;
}

Tensor TokenPositions(const LatentShape& shape, std::span<const int32_t> tokens) {
  const TokenGrid grid = shape.grid();
  Tensor positions({static_cast<int64_t>(tokens.size()), 3}, DType::kF32);
  float* next = positions.host_data<float>();
  for (const int32_t token : tokens) {
    *next++ = static_cast<float>(token / (grid.height * grid.width));
    *next++ = static_cast<float>(token / grid.width % grid.height);
    *next++ = static_cast<float>(token % grid.width);
  }
  return positions;
}

}  // namespace tamias
