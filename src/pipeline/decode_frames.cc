// Pixels in [-1, 1] -> bytes, 255 (value / 2 + 1/2) rounded, as they leave the decoder.
#include "pipeline/decode_frames.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "pipeline/finite_values.h"

namespace tamias {
namespace {

uint8_t ToByte(float value) {
  return static_cast<uint8_t>(std::lround(255 * std::clamp(value / 2 + 0.5f, 0.0f, 1.0f)));
}

// pixels [H, W, 3] f32 in [-1, 1], contiguous.
Image ToImage(ConstTensorView pixels) {
  Image image{static_cast<int>(pixels.dim(1)), static_cast<int>(pixels.dim(0)), {}};
  image.rgb.resize(static_cast<size_t>(pixels.NumElements()));
  const float* values = pixels.host_data<float>();
  std::transform(values, values + pixels.NumElements(), image.rgb.begin(), ToByte);
  return image;
}

}  // namespace

std::vector<Image> DecodeFrames(std::shared_ptr<DeviceResources> resources,
                                const ModelFamily& family, const GenerationPlan& plan,
                                ConstTensorView latents, const std::function<void()>& after_piece) {
  Context context(std::move(resources), plan.decoder, plan.threads, plan.decoding_workspace);
  std::vector<Image> frames;
  const FrameSink sink = [&](ConstTensorView pixels) {
    CheckFinite(pixels, "the picture", family);
    for (int64_t i = 0; i < pixels.dim(0); ++i) frames.push_back(ToImage(pixels.Select(0, i)));
  };
  family.Decode(context, plan.latents, latents, sink, after_piece);
  TAMIAS_CHECK(static_cast<int>(frames.size()) == plan.settings.num_frames);
  return frames;
}

}  // namespace tamias
