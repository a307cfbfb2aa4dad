// What Wan's image-to-video model knows of the picture that a film begins with (diffusers'
// WanImageToVideoPipeline): latents beside the noise, the autoencoder's of a film that is this
// picture and then grey, normalised, and before them a mask that says which of the frames behind
// each latent frame are given; in Wan 2.1 also the vision encoder's tokens of it.
#pragma once

#include <functional>
#include <optional>

#include "models/autoencoders/autoencoder_kl_wan_encoder.h"
#include "models/vision/clip_image_processor.h"
#include "models/vision/clip_vision_encoder.h"
#include "pipeline/image_condition.h"
#include "pipeline/model_folder.h"
#include "pipeline/model_on_devices.h"
#include "pipeline/packed_latents.h"
#include "tamias/context.h"
#include "tamias/weights.h"

namespace tamias {

class WanImageEncoder {
 public:
  // Reads, of a model that takes the picture's tokens, the components "image_encoder" and
  // "image_processor"; the autoencoder's weights must hold an encoder, too.
  WanImageEncoder(const ModelFolder& folder, const AutoencoderKlWanConfig& vae,
                  const Weights& vae_weights, bool has_vision);

  // vae: on the context's device. latents: of the film's noise. The picture is resized to the
  // film's pixels, whatever its shape. after_piece is called NumPieces times.
  ImageCondition Encode(Context& context, const AutoencoderKlWan& vae, const Image& image,
                        const LatentShape& latents, const std::function<void()>& after_piece) const;
  int NumPieces(const LatentShape& latents) const {
    return (vision_ ? 1 : 0) + static_cast<int>(latents.frames);
  }

  // The shape of a condition's latents: those of the noise with other channels.
  LatentShape ConditionShape(LatentShape latents) const;
  int64_t channels() const { return vae_.temporal_scale() + vae_.z_dim; }
  bool has_vision() const { return vision_.has_value(); }
  // Of the vision encoder; 0 without one.
  int64_t embedding_dim() const { return vision_ ? vision_->encoder.config().hidden_size : 0; }
  const PlacedModel& vision() const { return vision_->encoder; }

 private:
  struct Vision {
    explicit Vision(const ModelFolder& folder);
    ClipImageProcessor processor;
    ModelOnDevices<ClipVisionEncoder> encoder;
  };
  // The vision encoder's tokens [1, L, d].
  Tensor Embed(Context& context, const Image& image) const;
  // As the vision encoder takes the picture; when planning none is looked at.
  Tensor Pixels(const Context& context, const Image& image) const;
  // The condition before it is packed: mask and normalised latents.
  void Normalize(const LatentShape& latents, ConstTensorView encoded, TensorView unpacked) const;
  void EncodeFilm(Context& context, const AutoencoderKlWan& vae, const Image& image,
                  const LatentShape& latents, const std::function<void()>& after_piece,
                  TensorView encoded) const;

  AutoencoderKlWanConfig vae_;
  std::optional<Vision> vision_;
};

}  // namespace tamias
