// Wan 2.1 from its parts: UMT5 states padded with zeros, UniPC or Euler steps, the transformer (for
// image-to-video with the condition behind the latents' channels), the causal 3D VAE.
#include "pipeline/wan_pipeline.h"

#include <utility>

#include "base/check.h"
#include "pipeline/rotary_denoiser.h"
#include "tamias/device_memory.h"
#include "tamias/ops/copy.h"

namespace tamias {
namespace {

// Wan 2.2 has a second transformer, or a timestep for each token.
void RefuseLaterVersions(const ModelFolder& folder) {
  const JsonObject index = JsonObject::Load(folder.path() / "model_index.json");
  const bool expands = index.BoolOr("expand_timesteps", false);
  if (expands || index.Has("boundary_ratio")) {
    Fail(ErrorCode::kUnsupported, "{}: field '{}': Wan 2.2 is not supported", index.source(),
         expands ? "expand_timesteps" : "boundary_ratio");
  }
}

using WanDenoiser = RotaryDenoiser<WanTransformer, WanTransformerInputs>;

// Puts the picture's latents behind the noisy ones, token by token.
class WanImageDenoiser final : public Denoiser {
 public:
  // latents [1, N, P] in token order, on the device that the denoiser runs on.
  WanImageDenoiser(std::unique_ptr<Denoiser> denoiser, ConstTensorView latents)
      : denoiser_(std::move(denoiser)), latents_(latents) {}

  void Predict(Context& context, float timestep, const PromptViews& prompt, ConstTensorView latents,
               SparseInvocation& invocation, TensorView prediction) const override {
    Workspace::Scope scope(context.workspace());
    const int64_t noisy = latents.dim(2), width = noisy + latents_.dim(2);
    const TensorView joined = context.workspace().Allocate({1, latents.dim(1), width}, DType::kF32);
    Copy(context, latents, joined.Slice(2, 0, noisy));
    Copy(context, latents_, joined.Slice(2, noisy, width));
    denoiser_->Predict(context, timestep, prompt, joined, invocation, prediction);
  }

 private:
  std::unique_ptr<Denoiser> denoiser_;
  ConstTensorView latents_;
};

}  // namespace

WanPipeline::WanPipeline(const ModelFolder& folder) : TwoPartFamily(folder), text_(folder) {
  RefuseLaterVersions(folder);
  SetScheduler({});
  if (folder.family() == "WanImageToVideoPipeline") {
    image_ = std::make_unique<WanImageEncoder>(folder, vae_config(), vae_weights());
  }
  CheckTransformer();
  const WanTransformerConfig& config = transformer_config();
  AddComponent("text_encoder", text_.weights());
  if (image_) AddComponent("image_encoder", image_->weights());
  SetLatents(config.patch_size[1], {vae_config().latents_std, vae_config().latents_mean});
  FamilyDefaults defaults;
  defaults.width = 832;
  defaults.height = 480;
  defaults.num_frames = 81;
  defaults.fps = 16;
  defaults.steps = 50;
  defaults.true_cfg_scale = 5;
  defaults.frame_multiple = static_cast<int>(vae_config().temporal_scale());
  defaults.size_multiple = static_cast<int>(pixels_of_token());
  defaults.needs_image = image_ != nullptr;
  SetDefaults(defaults, "wan-2.1");
}

void WanPipeline::CheckTransformer() const {
  const WanTransformerConfig& config = transformer_config();
  const int64_t z_dim = vae_config().z_dim;
  if (image_) {
    CheckTransformerField("image_dim", config.image_dim, "image_encoder", image_->embedding_dim());
    if (config.pos_embed_seq_len > 0) {
      Fail(ErrorCode::kUnsupported,
           "{}: transformer: field 'pos_embed_seq_len': models of a first and a last picture are "
           "not supported",
           folder().path().string());
    }
  } else {
    CheckTransformerField("image_dim", config.image_dim, "a text-to-video pipeline", 0);
  }
  CheckTransformerField("in_channels", config.in_channels, "the VAE",
                        z_dim + (image_ ? image_->channels() : 0));
  CheckTransformerField("out_channels", config.out_channels, "the VAE", z_dim);
  CheckTransformerField("text_dim", config.text_dim, "text_encoder", text_.sequence_dim());
  CheckTransformerField("patch_size[0]", config.patch_size[0], "Wan", 1);
  CheckTransformerField("patch_size[2]", config.patch_size[2], "patch_size[1]",
                        config.patch_size[1]);
}

std::unique_ptr<ModelFamily> LoadWanPipeline(const ModelFolder& folder) {
  return std::make_unique<WanPipeline>(folder);
}

SparseGeometry WanPipeline::Geometry(int64_t /*text_tokens*/, const TokenGrid& grid) const {
  return transformer().on_cpu().Geometry(1, grid);
}

// The transformer attends to all max_sequence_length tokens: behind the prompt they are zeros.
PromptEmbedding WanPipeline::EncodePrompt(Context& context, const std::string& prompt,
                                          const GenerationSettings& settings) const {
  Tensor valid = text_.Encode(context, prompt, settings.max_sequence_length);
  if (context.IsPlanning()) return {std::move(valid), {}};  // the longest there can be
  PromptEmbedding embedding;
  embedding.sequence =
      Tensor::Zeros({1, settings.max_sequence_length, text_.sequence_dim()}, DType::kF32);
  CopyOnHost(valid, embedding.sequence.view().Slice(1, 0, valid.dim(1)));
  return embedding;
}

bool WanPipeline::IsCut(const std::string& prompt, const GenerationSettings& settings) const {
  return text_.IsCut(prompt, settings.max_sequence_length);
}

std::unique_ptr<Denoiser> WanPipeline::MakeDenoiser(Context& context,
                                                    const GenerationSettings& /*settings*/,
                                                    const LatentShape& latents,
                                                    const TokenOrder& order,
                                                    const ImageCondition& image) const {
  WanTransformerInputs constants;
  if (image_) constants.encoder_hidden_states_image = OnDevice(context, image.embedding);
  auto denoiser = std::make_unique<WanDenoiser>(
      transformer().On(context),
      RotaryPositions(context, TokenPositions(latents, order), transformer_config().RotaryAxes()),
      constants);
  if (!image_) return denoiser;
  const TensorView ordered = context.host_workspace().Allocate(image.latents.shape(), DType::kF32);
  order.Apply(context, image.latents, ordered);
  return std::make_unique<WanImageDenoiser>(std::move(denoiser), OnDevice(context, ordered));
}

ImageCondition WanPipeline::EncodeImage(Context& context, const Image& image,
                                        const LatentShape& latents,
                                        const std::function<void()>& after_piece) const {
  return image_->Encode(context, vae(context), image, latents, after_piece);
}

int WanPipeline::NumImagePieces(const LatentShape& latents) const {
  return image_ ? image_->NumPieces(latents) : 0;
}

void WanPipeline::CopyWeights(Context& context, Context& coder) const {
  TwoPartFamily::CopyWeights(context, coder);
  text_.CopyTo(coder);
  if (image_) image_->CopyTo(coder);
}

}  // namespace tamias
