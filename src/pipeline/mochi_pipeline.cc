// Mochi 1 from its parts: T5 states without padding, noise levels of the linear-quadratic schedule,
// the asymmetric transformer with its own rotary tables, the VAE's latents scaled per channel.
#include "pipeline/mochi_pipeline.h"

#include "base/check.h"
#include "models/schedulers/linear_quadratic_schedule.h"
#include "pipeline/rotary_denoiser.h"

namespace tamias {
namespace {

using MochiDenoiser = RotaryDenoiser<MochiTransformer, MochiTransformerInputs>;

LatentScaling Scaling(const AutoencoderKlMochiConfig& config) {
  if (config.latents_mean.empty() || config.latents_std.empty()) {
    return LatentScaling::Uniform(config.latent_channels, 1 / config.scaling_factor);
  }
  LatentScaling scaling{config.latents_std, config.latents_mean};
  for (double& scale : scaling.scale) scale /= config.scaling_factor;
  return scaling;
}

}  // namespace

MochiPipeline::MochiPipeline(const ModelFolder& folder)
    : TwoPartFamily(folder),
      text_(folder),
      force_zeros_for_empty_prompt_(JsonObject::Load(folder.path() / "model_index.json")
                                        .BoolOr("force_zeros_for_empty_prompt", false)) {
  SetScheduler({.sigmas = [](int num_steps) { return LinearQuadraticSigmas(num_steps); },
                .is_inverted = true});
  const MochiTransformerConfig& config = transformer_config();
  CheckTransformerField("in_channels", config.in_channels, "the VAE", vae_config().latent_channels);
  CheckTransformerField("out_channels", config.out_channels, "the VAE", config.in_channels);
  CheckTransformerField("text_embed_dim", config.text_embed_dim, "text_encoder",
                        text_.sequence_dim());
  AddComponent("text_encoder", text_.encoder(), {ModelStage::kEncode});
  SetLatents(config.patch_size, Scaling(vae_config()));
  SetDefaults({.width = 848,
               .height = 480,
               .steps = 64,
               .max_sequence_length = 256,
               .true_cfg_scale = 4.5,
               .num_frames = 19,
               .frame_multiple = static_cast<int>(vae_config().temporal_scale()),
               .fps = 30,
               .size_multiple = static_cast<int>(pixels_of_token()),
               .max_sequence_length_limit = 512},
              "mochi");
}

std::unique_ptr<ModelFamily> LoadMochiPipeline(const ModelFolder& folder) {
  return std::make_unique<MochiPipeline>(folder);
}

SparseGeometry MochiPipeline::Geometry(int64_t text_tokens, const TokenGrid& grid) const {
  return transformer().on_cpu().Geometry(1, text_tokens, grid);
}

PromptEmbedding MochiPipeline::EncodePrompt(Context& context, const std::string& prompt,
                                            const GenerationSettings& settings) const {
  // The original masks an empty prompt as a whole, end token included: nothing is left of it.
  if (prompt.empty() && force_zeros_for_empty_prompt_ && !context.IsPlanning()) {
    return {.sequence = Tensor({1, 0, text_.sequence_dim()}, DType::kF32), .pooled = {}};
  }
  return {.sequence = text_.Encode(context, prompt, settings.max_sequence_length), .pooled = {}};
}

bool MochiPipeline::IsCut(const std::string& prompt, const GenerationSettings& settings) const {
  return text_.IsCut(prompt, settings.max_sequence_length);
}

std::unique_ptr<Denoiser> MochiPipeline::MakeDenoiser(Context& context, const GenerationSettings&,
                                                      const LatentShape& latents,
                                                      const DenoiserTokens& tokens,
                                                      const ImageCondition& /*image*/) const {
  return std::make_unique<MochiDenoiser>(
      transformer(),
      transformer().On(context).RotaryPositions(context, latents.grid(), tokens.list()));
}

}  // namespace tamias
