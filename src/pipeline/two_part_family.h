// What every family gets from its transformer and its VAE alone, pictures and films alike: loading
// on any device, the shape of its latents, sparsity, decoding. A picture is a film of one frame.
#pragma once

#include <type_traits>
#include <utility>

#include "pipeline/model_family.h"
#include "pipeline/model_on_devices.h"

namespace tamias {

template <typename Transformer, typename Vae>
class TwoPartFamily : public ModelFamily {
 protected:
  using TransformerConfig = std::remove_cvref_t<decltype(std::declval<Transformer>().config())>;
  using VaeConfig = std::remove_cvref_t<decltype(std::declval<Vae>().config())>;

  explicit TwoPartFamily(const ModelFolder& folder)
      : ModelFamily(folder),
        transformer_(TransformerConfig::FromJson(folder.Config("transformer")),
                     folder.OpenWeights("transformer")),
        vae_(VaeConfig::FromJson(folder.Config("vae")), folder.OpenWeights("vae")) {}

  // Called by a family's constructor, after it has added its text encoders. patch: latent pixels
  // along a side of a token; scaling: from the diffusion model's latents to the VAE's.
  void SetLatents(int64_t patch, LatentScaling scaling) {
    patch_ = patch;
    scaling_ = std::move(scaling);
    AddComponent("transformer", transformer_.weights());
    AddComponent("vae", vae_.weights());
  }

  const ModelOnDevices<Transformer>& transformer() const { return transformer_; }
  const TransformerConfig& transformer_config() const { return transformer_.config(); }
  const Vae& vae(Context& context) const { return vae_.On(context); }
  const VaeConfig& vae_config() const { return vae_.config(); }
  const Weights& vae_weights() const { return vae_.weights(); }
  // Width and height are multiples of this.
  int64_t pixels_of_token() const { return vae_config().spatial_scale() * patch_; }

  const Weights& DenoiserWeights() const final { return transformer_.weights(); }
  void CopyWeights(Context& context, Context& coder) const override {
    transformer_.CopyTo(context);
    vae_.CopyTo(coder);
  }

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
    transformer_.On(context).PrepareForSparsity(context);
  }
  size_t SparsityWeightBytes(const Placement& placement) const final {
    return transformer_.on_cpu().SparsityWeightBytes(placement);
  }

  void Decode(Context& context, const LatentShape& shape, ConstTensorView latents,
              const FrameSink& sink, const std::function<void()>& after_piece) const final {
    Workspace& host = context.host_workspace();
    Workspace::Scope scope(host);
    const TensorView unpacked =
        host.Allocate({shape.frames, shape.height, shape.width, shape.channels}, DType::kF32);
    if (!context.IsPlanning()) UnpackLatents(shape, latents, scaling_, unpacked);
    vae_.On(context).Decode(context, unpacked, sink, after_piece);
  }
  int NumDecodePieces(const LatentShape& latents) const final {
    return static_cast<int>(vae_.on_cpu().NumPieces(latents.frames, latents.height, latents.width));
  }

  ModelOnDevices<Transformer> transformer_;  // prepared once for sparse MLPs, on first need
  ModelOnDevices<Vae> vae_;
  int64_t patch_ = 0;
  LatentScaling scaling_;
};

}  // namespace tamias
