// What every family gets from its transformers (one, or two that share the steps) and its VAE
// alone, pictures and films alike: loading on any device, the shape of its latents, sparsity,
// decoding. A picture is a film of one frame.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "pipeline/model_family.h"
#include "pipeline/model_on_devices.h"

namespace tamias {

template <typename Transformer, typename Vae>
class TwoPartFamily : public ModelFamily {
 protected:
  using TransformerConfig = std::remove_cvref_t<decltype(std::declval<Transformer>().config())>;
  using VaeConfig = std::remove_cvref_t<decltype(std::declval<Vae>().config())>;

  // transformers: their components, in the order of ExpertAt.
  explicit TwoPartFamily(const ModelFolder& folder,
                         const std::vector<std::string>& transformers = {"transformer"})
      : ModelFamily(folder),
        transformer_names_(transformers),
        vae_(VaeConfig::FromJson(folder.Config("vae")), folder.OpenWeights("vae")) {
    for (const std::string& name : transformers) {
      transformers_.emplace_back(TransformerConfig::FromJson(folder.Config(name)),
                                 folder.OpenWeights(name));
    }
  }

  // Called by a family's constructor, after it has added its text encoders. patch: latent pixels
  // along a side of a token; scaling: from the diffusion model's latents to the VAE's; encodes: the
  // VAE encodes pictures, too.
  void SetLatents(int64_t patch, LatentScaling scaling, bool encodes = false) {
    patch_ = patch;
    scaling_ = std::move(scaling);
    for (size_t i = 0; i < transformers_.size(); ++i) {
      AddComponent(transformer_names_[i], transformers_[i], {ModelStage::kDenoise},
                   static_cast<int>(i));
    }
    if (encodes) {
      AddComponent("vae", vae_, {ModelStage::kEncode, ModelStage::kDecode});
    } else {
      AddComponent("vae", vae_, {ModelStage::kDecode});
    }
  }

  size_t num_transformers() const { return transformers_.size(); }
  const ModelOnDevices<Transformer>& transformer(size_t i = 0) const { return transformers_[i]; }
  const TransformerConfig& transformer_config() const { return transformer().config(); }
  const Vae& vae(Context& context) const { return vae_.On(context); }
  const VaeConfig& vae_config() const { return vae_.config(); }
  const Weights& vae_weights() const { return vae_.weights(); }
  // Width and height are multiples of this.
  int64_t pixels_of_token() const { return vae_config().spatial_scale() * patch_; }

 private:
  LatentShape LatentsOf(const GenerationSettings& settings) const final {
    const VaeConfig& config = vae_.config();
    return {.channels = static_cast<int64_t>(scaling_.scale.size()),
            .frames = (settings.num_frames - 1) / config.temporal_scale() + 1,
            .height = settings.height / config.spatial_scale(),
            .width = settings.width / config.spatial_scale(),
            .patch = patch_};
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

  std::vector<std::string> transformer_names_;
  // Prepared once for sparse MLPs, on first need.
  std::vector<ModelOnDevices<Transformer>> transformers_;
  ModelOnDevices<Vae> vae_;
  int64_t patch_ = 0;
  LatentScaling scaling_;
};

}  // namespace tamias
