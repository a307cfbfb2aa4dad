// FLUX.1 from its parts: latents of 2 x 2 VAE pixels a token, CLIP and T5 embeddings, flow-matching
// Euler steps shifted by the number of tokens, embedded guidance, large pictures decoded in tiles.
#include "pipeline/flux_pipeline.h"

#include "base/check.h"
#include "models/schedulers/flow_match_euler.h"
#include "pipeline/rotary_denoiser.h"

namespace tamias {
namespace {

constexpr int64_t kPatch = 2;               // a token is 2 x 2 latent pixels
constexpr float kTrainingTimesteps = 1000;  // the transformer takes timesteps as a share of these

using FluxDenoiser = RotaryDenoiser<FluxTransformer, FluxTransformerInputs>;

}  // namespace

FluxPipeline::FluxPipeline(const ModelFolder& folder) : TwoPartFamily(folder), text_(folder) {
  SetScheduler({.sigmas = EvenSigmas,
                .leaves_flow_sigmas = true,
                .shifts_by_tokens = true,
                .draws_packed_noise = true});
  const FluxTransformerConfig& config = transformer_config();
  const int64_t channels = vae_config().latent_channels;
  CheckTransformerField("in_channels", config.in_channels, "the VAE", kPatch * kPatch * channels);
  CheckTransformerField("out_channels", config.out_channels, "the VAE", config.in_channels);
  CheckTransformerField("joint_attention_dim", config.joint_attention_dim, "text_encoder_2",
                        text_.sequence_dim());
  CheckTransformerField("pooled_projection_dim", config.pooled_projection_dim, "text_encoder",
                        text_.pooled_dim());
  AddComponent("text_encoder", text_.clip(), {ModelStage::kEncode});
  AddComponent("text_encoder_2", text_.t5(), {ModelStage::kEncode});
  SetLatents(kPatch, LatentScaling::Uniform(channels, 1 / vae_config().scaling_factor,
                                            vae_config().shift_factor));
  FamilyDefaults defaults;
  defaults.size_multiple = static_cast<int>(pixels_of_token());
  SetDefaults(defaults, "flux-1-dev");
}

std::unique_ptr<ModelFamily> LoadFluxPipeline(const ModelFolder& folder) {
  return std::make_unique<FluxPipeline>(folder);
}

SparseGeometry FluxPipeline::Geometry(int64_t text_tokens, const TokenGrid& grid) const {
  return transformer().on_cpu().Geometry(1, text_tokens, grid);
}

PromptEmbedding FluxPipeline::EncodePrompt(Context& context, const std::string& prompt,
                                           const GenerationSettings& settings) const {
  return text_.Encode(context, prompt, settings.max_sequence_length);
}

bool FluxPipeline::IsCut(const std::string& prompt, const GenerationSettings& settings) const {
  return text_.IsCut(prompt, settings.max_sequence_length);
}

std::unique_ptr<Denoiser> FluxPipeline::MakeDenoiser(Context& context,
                                                     const GenerationSettings& settings,
                                                     const LatentShape& latents,
                                                     const DenoiserTokens& tokens,
                                                     const ImageCondition& /*image*/) const {
  FluxTransformerInputs constants;
  constants.guidance = static_cast<float>(settings.guidance_scale);
  return std::make_unique<FluxDenoiser>(
      transformer(),
      RotaryPositions(context, TokenPositions(latents, tokens.list()),
                      transformer_config().axes_dims_rope),
      constants, kTrainingTimesteps);
}

}  // namespace tamias
