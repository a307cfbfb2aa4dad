// What a text-to-video family gets from its transformer and its VAE alone: loading, the shape of
// its latents, decoding and its plan.
#pragma once

#include <type_traits>
#include <utility>

#include "pipeline/denoising_pipeline.h"

namespace tamias {

template <typename Transformer, typename Vae>
class FilmPipeline : public DenoisingPipeline {
 protected:
  using TransformerConfig = std::remove_cvref_t<decltype(std::declval<Transformer>().config())>;
  using VaeConfig = std::remove_cvref_t<decltype(std::declval<Vae>().config())>;

  explicit FilmPipeline(const ModelFolder& folder)
      : DenoisingPipeline(folder),
        transformer_weights_(folder.OpenWeights("transformer")),
        vae_weights_(folder.OpenWeights("vae")),
        transformer_(TransformerConfig::FromJson(folder.Config("transformer")),
                     transformer_weights_),
        vae_(VaeConfig::FromJson(folder.Config("vae")), vae_weights_) {}

  // Called by a family's constructor, after it has added its text encoders. patch: latent pixels
  // along a side of a token; scaling: from the diffusion model's latents to the VAE's.
  void SetFilm(int64_t patch, LatentScaling scaling) {
    patch_ = patch;
    scaling_ = std::move(scaling);
    AddComponent("transformer", transformer_weights_);
    AddComponent("vae", vae_weights_);
  }

  const Transformer& transformer() const { return transformer_; }
  const VaeConfig& vae_config() const { return vae_.config(); }
  const Weights& vae_weights() const { return vae_weights_; }

 private:
  LatentShape LatentsOf(const GenerationSettings& settings) const final {
    const VaeConfig& config = vae_.config();
    return {.channels = static_cast<int64_t>(scaling_.scale.size()),
            .frames = (settings.num_frames - 1) / config.temporal_scale() + 1,
            .height = settings.height / config.spatial_scale(),
            .width = settings.width / config.spatial_scale(),
            .patch = patch_};
  }

  void PrepareForSparsity(Context& context) const final {
    transformer_.PrepareForSparsity(context);
  }
  size_t SparsityWeightBytes(const Placement& /*placement*/) const final {
    return transformer_.SparsityWeightBytes();
  }

  void Decode(Context& context, const LatentShape& shape, ConstTensorView latents,
              const FrameSink& sink, const std::function<void()>& after_piece) const final {
    Tensor unpacked({shape.frames, shape.height, shape.width, shape.channels}, DType::kF32);
    UnpackLatents(shape, latents, scaling_, unpacked);
    vae_.Decode(context, unpacked, sink, after_piece);
  }
  int NumDecodePieces(const LatentShape& latents) const final {
    return static_cast<int>(vae_.NumPieces(latents.frames, latents.height, latents.width));
  }
  StageBytes PlanDecoder(const LatentShape& latents, const Placement& /*placement*/) const final {
    return {.held = sizeof(float) * static_cast<size_t>(latents.size()),
            .workspace = vae_.PlanBytes(latents.frames, latents.height, latents.width)};
  }

  Weights transformer_weights_;
  Weights vae_weights_;
  mutable Transformer transformer_;  // mutable: prepared once for sparse MLPs, on first need
  Vae vae_;
  int64_t patch_ = 0;
  LatentScaling scaling_;
};

}  // namespace tamias
