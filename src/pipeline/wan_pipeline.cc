// Wan from its parts: UMT5 states padded with zeros, UniPC or Euler steps, the transformer or the
// two of Wan 2.2 (for image-to-video with the condition behind the latents' channels), the causal
// 3D VAE.
#include "pipeline/wan_pipeline.h"

#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "pipeline/rotary_denoiser.h"
#include "tamias/device_memory.h"
#include "tamias/ops/copy.h"

namespace tamias {
namespace {

JsonObject IndexOf(const ModelFolder& folder) {
  return JsonObject::Load(folder.path() / "model_index.json");
}

// The components that predict, refusing models with a timestep for each token.
std::vector<std::string> TransformersOf(const ModelFolder& folder) {
  const JsonObject index = IndexOf(folder);
  if (index.BoolOr("expand_timesteps", false)) {
    Fail(ErrorCode::kUnsupported, "{}: field 'expand_timesteps': Wan 2.2 5B is not supported",
         index.source());
  }
  if (!index.Has("boundary_ratio")) return {"transformer"};
  return {"transformer", "transformer_2"};
}

// The timestep below which the second transformer predicts.
float BoundaryOf(const ModelFolder& folder) {
  const double ratio = IndexOf(folder).FloatOr("boundary_ratio", 0, {.min = 0, .max = 1});
  const JsonObject scheduler = folder.Config("scheduler");
  return static_cast<float>(ratio *
                            static_cast<double>(scheduler.IntOr("num_train_timesteps", 1000)));
}

using WanDenoiser = RotaryDenoiser<WanTransformer, WanTransformerInputs>;

// Predicts with the transformer of the timestep.
class WanExpertsDenoiser final : public Denoiser {
 public:
  // experts: in the family's order.
  WanExpertsDenoiser(const ModelFamily& family, std::vector<std::unique_ptr<Denoiser>> experts)
      : family_(family), experts_(std::move(experts)) {}

  void Predict(Context& context, float timestep, const PromptViews& prompt, ConstTensorView latents,
               SparseInvocation& invocation, TensorView prediction) const override {
    const Denoiser& expert = *experts_[static_cast<size_t>(family_.ExpertAt(timestep))];
    expert.Predict(context, timestep, prompt, latents, invocation, prediction);
  }

 private:
  const ModelFamily& family_;
  std::vector<std::unique_ptr<Denoiser>> experts_;
};

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

WanPipeline::WanPipeline(const ModelFolder& folder)
    : TwoPartFamily(folder, TransformersOf(folder)), text_(folder), boundary_(BoundaryOf(folder)) {
  SetScheduler({});
  if (folder.family() == "WanImageToVideoPipeline") {
    image_ = std::make_unique<WanImageEncoder>(folder, vae_config(), vae_weights(),
                                               transformer_config().takes_image());
  }
  CheckTransformer();
  const bool has_experts = num_transformers() > 1;
  if (has_experts) CheckSecondTransformer();
  const WanTransformerConfig& config = transformer_config();
  AddComponent("text_encoder", text_.encoder(), {ModelStage::kEncode});
  if (image_ && image_->has_vision()) {
    AddComponent("image_encoder", image_->vision(), {ModelStage::kEncode});
  }
  SetLatents(config.patch_size[1], {vae_config().latents_std, vae_config().latents_mean},
             /*encodes=*/image_ != nullptr);
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
  defaults.has_experts = has_experts;
  SetDefaults(defaults, has_experts ? "wan-2.2" : "wan-2.1");
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

// Both serve one state, one rotary table and one condition.
void WanPipeline::CheckSecondTransformer() const {
  const WanTransformerConfig& first = transformer_config();
  const WanTransformerConfig& second = transformer(1).config();
  const auto check = [&](const char* field, int64_t found, int64_t expected) {
    CheckTransformerField(field, found, "transformer", expected, "transformer_2");
  };
  check("num_layers", second.num_layers, first.num_layers);
  check("num_attention_heads", second.num_attention_heads, first.num_attention_heads);
  check("attention_head_dim", second.attention_head_dim, first.attention_head_dim);
  check("ffn_dim", second.ffn_dim, first.ffn_dim);
  check("in_channels", second.in_channels, first.in_channels);
  check("out_channels", second.out_channels, first.out_channels);
  check("text_dim", second.text_dim, first.text_dim);
  check("image_dim", second.image_dim, first.image_dim);
  check("pos_embed_seq_len", second.pos_embed_seq_len, first.pos_embed_seq_len);
  check("patch_size[0]", second.patch_size[0], first.patch_size[0]);
  check("patch_size[1]", second.patch_size[1], first.patch_size[1]);
  check("patch_size[2]", second.patch_size[2], first.patch_size[2]);
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
                                                    const DenoiserTokens& tokens,
                                                    const ImageCondition& image) const {
  WanTransformerInputs constants;
  if (image_ && image_->has_vision()) {
    constants.encoder_hidden_states_image = OnDevice(context, image.embedding);
  }
  const RotaryTable rotary = RotaryPositions(context, TokenPositions(latents, tokens.list()),
                                             transformer_config().RotaryAxes());
  std::vector<std::unique_ptr<Denoiser>> experts;
  for (size_t i = 0; i < num_transformers(); ++i) {
    experts.push_back(std::make_unique<WanDenoiser>(transformer(i), rotary, constants));
  }
  auto denoiser = std::make_unique<WanExpertsDenoiser>(*this, std::move(experts));
  if (!image_) return denoiser;
  const TensorView ordered = context.host_workspace().Allocate(image.latents.shape(), DType::kF32);
  tokens.order.Apply(context, image.latents, ordered);
  return std::make_unique<WanImageDenoiser>(
      std::move(denoiser),
      OnDevice(context, ordered.Slice(1, tokens.range.begin, tokens.range.end)));
}

ImageCondition WanPipeline::EncodeImage(Context& context, const Image& image,
                                        const LatentShape& latents,
                                        const std::function<void()>& after_piece) const {
  return image_->Encode(context, vae(context), image, latents, after_piece);
}

int WanPipeline::NumImagePieces(const LatentShape& latents) const {
  return image_ ? image_->NumPieces(latents) : 0;
}

}  // namespace tamias
