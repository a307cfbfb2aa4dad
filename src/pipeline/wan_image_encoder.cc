// Picture -> where there is a vision encoder its tokens [1, L, d], and the packed condition: at
// each place of each latent frame the mask's channels (1: given) and then the VAE's C channels,
// (value - mean) / std.
#include "pipeline/wan_image_encoder.h"

#include <algorithm>

#include "base/check.h"
#include "io/json.h"
#include "io/resize_image.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

// Bytes to [-1, 1], in fp32 as diffusers computes it.
void WritePixels(const Image& image, TensorView pixels) {
  float* out = pixels.host_data<float>();
  for (const uint8_t byte : image.rgb) *out++ = 2 * (static_cast<float>(byte) / 255) - 1;
}

}  // namespace

WanImageEncoder::Vision::Vision(const ModelFolder& folder)
    : processor(ClipImageProcessor::FromJson(
          JsonObject::Load(folder.Component("image_processor") / "preprocessor_config.json"))),
      encoder(ClipVisionConfig::FromJson(folder.Config("image_encoder")),
              folder.OpenWeights("image_encoder")) {
  const int64_t size = encoder.config().image_size;
  if (processor.crop_size != size) {
    Fail(ErrorCode::kInvalidFile,
         "{}: image_processor: field 'crop_size' is {}, but image_encoder takes {}",
         folder.path().string(), processor.crop_size, size);
  }
}

WanImageEncoder::WanImageEncoder(const ModelFolder& folder, const AutoencoderKlWanConfig& vae,
                                 const Weights& vae_weights, bool has_vision)
    : vae_(vae) {
  const AutoencoderKlWanEncoder checked(vae, vae_weights);
  if (has_vision) vision_.emplace(folder);
}

LatentShape WanImageEncoder::ConditionShape(LatentShape latents) const {
  latents.channels = channels();
  return latents;
}

ImageCondition WanImageEncoder::Encode(Context& context, const AutoencoderKlWan& vae,
                                       const Image& image, const LatentShape& latents,
                                       const std::function<void()>& after_piece) const {
  ImageCondition condition;
  if (vision_) {
    condition.embedding = Embed(context, image);
    after_piece();
  }
  Workspace& host = context.host_workspace();
  Workspace::Scope scope(host);
  const LatentShape shape = ConditionShape(latents);
  const TensorView encoded =
      host.Allocate({latents.frames, latents.height, latents.width, vae_.z_dim}, DType::kF32);
  EncodeFilm(context, vae, image, latents, after_piece, encoded);
  const TensorView unpacked =
      host.Allocate({shape.frames, shape.height, shape.width, shape.channels}, DType::kF32);
  if (context.IsPlanning()) {
    condition.latents =
        HostTensor(context, {1, shape.tokens(), shape.token_channels()}, DType::kF32);
    return condition;
  }
  Normalize(latents, encoded, unpacked);
  condition.latents = PackLatents(shape, unpacked);
  return condition;
}

Tensor WanImageEncoder::Embed(Context& context, const Image& image) const {
  const int64_t tokens = vision_->encoder.config().tokens();
  Tensor embedding = HostTensor(context, {1, tokens, embedding_dim()}, DType::kF32);
  vision_->encoder.On(context).Encode(context, Pixels(context, image), embedding);
  return embedding;
}

Tensor WanImageEncoder::Pixels(const Context& context, const Image& image) const {
  if (!context.IsPlanning()) return vision_->processor(image);
  const int64_t size = vision_->encoder.config().image_size;
  return HostTensor(context, {1, size, size, 3}, DType::kF32);
}

void WanImageEncoder::Normalize(const LatentShape& latents, ConstTensorView encoded,
                                TensorView unpacked) const {
  const int64_t mask = vae_.temporal_scale(), pixels = latents.height * latents.width;
  const float* in = encoded.host_data<float>();
  float* out = unpacked.host_data<float>();
  for (int64_t i = 0; i < latents.frames * pixels; ++i) {
    // The first latent frame counts as so many frames, all of them given.
    out = std::fill_n(out, mask, i < pixels ? 1.0f : 0.0f);
    for (size_t c = 0; c < vae_.latents_mean.size(); ++c) {
      *out++ = static_cast<float>((*in++ - vae_.latents_mean[c]) / vae_.latents_std[c]);
    }
  }
}

void WanImageEncoder::EncodeFilm(Context& context, const AutoencoderKlWan& vae, const Image& image,
                                 const LatentShape& latents,
                                 const std::function<void()>& after_piece,
                                 TensorView encoded) const {
  const int64_t scale = vae_.spatial_scale();
  Image resized;
  if (!context.IsPlanning()) {
    resized = ResizeImage(image, static_cast<int>(scale * latents.width),
                          static_cast<int>(scale * latents.height), ResizeFilter::kLanczos);
  }
  const FrameSource source = [&](int64_t frame, TensorView pixels) {
    if (context.IsPlanning()) return;
    if (frame == 0) return WritePixels(resized, pixels);
    std::fill_n(pixels.host_data<float>(), pixels.NumElements(), 0.0f);
  };
  AutoencoderKlWanEncoder(vae_, vae.weights()).Encode(context, source, encoded, after_piece);
}

}  // namespace tamias
