// HunyuanVideo from its parts: Llama and CLIP embeddings, flow-matching Euler steps with the
// checkpoint's shift, embedded guidance, the causal 3D VAE.
#include "pipeline/hunyuan_video_pipeline.h"

#include <numeric>

#include "base/check.h"
#include "models/schedulers/flow_match_euler.h"
#include "pipeline/rotary_denoiser.h"

namespace tamias {
namespace {

using HunyuanVideoDenoiser = RotaryDenoiser<HunyuanVideoTransformer, HunyuanVideoTransformerInputs>;

}  // namespace

HunyuanVideoPipeline::HunyuanVideoPipeline(const ModelFolder& folder)
    : TwoPartFamily(folder), text_(folder) {
  SetScheduler({.sigmas = EvenSigmasToZero});
  const HunyuanVideoTransformerConfig& config = transformer_config();
  CheckTransformerField("in_channels", config.in_channels, "the VAE", vae_config().latent_channels);
  CheckTransformerField("out_channels", config.out_channels, "the VAE", config.in_channels);
  CheckTransformerField("patch_size_t", config.patch_size_t, "HunyuanVideo", 1);
  CheckTransformerField("text_embed_dim", config.text_embed_dim, "text_encoder",
                        text_.sequence_dim());
  CheckTransformerField("pooled_projection_dim", config.pooled_projection_dim, "text_encoder_2",
                        text_.pooled_dim());
  AddComponent("text_encoder", text_.llama(), {ModelStage::kEncode});
  AddComponent("text_encoder_2", text_.clip(), {ModelStage::kEncode});
  SetLatents(config.patch_size,
             LatentScaling::Uniform(config.in_channels, 1 / vae_config().scaling_factor));
  FamilyDefaults defaults;
  defaults.width = 1280;
  defaults.height = 720;
  defaults.num_frames = 129;
  defaults.fps = 24;
  defaults.steps = 50;
  defaults.max_sequence_length = 256;
  defaults.guidance_scale = 6;
  defaults.frame_multiple = static_cast<int>(vae_config().temporal_scale());
  // diffusers asks for 16 even where the patches would allow less.
  defaults.size_multiple =
      static_cast<int>(std::lcm(int64_t{16}, vae_config().spatial_scale() * config.patch_size));
  SetDefaults(defaults, "hunyuan-video");
}

std::unique_ptr<ModelFamily> LoadHunyuanVideoPipeline(const ModelFolder& folder) {
  return std::make_unique<HunyuanVideoPipeline>(folder);
}

SparseGeometry HunyuanVideoPipeline::Geometry(int64_t text_tokens, const TokenGrid& grid) const {
  return transformer().on_cpu().Geometry(1, text_tokens, grid);
}

PromptEmbedding HunyuanVideoPipeline::EncodePrompt(Context& context, const std::string& prompt,
                                                   const GenerationSettings& settings) const {
  return text_.Encode(context, prompt, settings.max_sequence_length);
}

bool HunyuanVideoPipeline::IsCut(const std::string& prompt,
                                 const GenerationSettings& settings) const {
  return text_.IsCut(prompt, settings.max_sequence_length);
}

std::unique_ptr<Denoiser> HunyuanVideoPipeline::MakeDenoiser(
    Context& context, const GenerationSettings& settings, const LatentShape& latents,
    const DenoiserTokens& tokens, const ImageCondition& /*image*/) const {
  const HunyuanVideoTransformerConfig& config = transformer_config();
  HunyuanVideoTransformerInputs constants;
  constants.guidance = static_cast<float>(settings.guidance_scale);
  return std::make_unique<HunyuanVideoDenoiser>(
      transformer(),
      RotaryPositions(context, TokenPositions(latents, tokens.list()), config.rope_axes_dim,
                      config.rope_theta),
      constants);
}

}  // namespace tamias
