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

FluxPipeline::FluxPipeline(const ModelFolder& folder)
    : DenoisingPipeline(folder),
      text_(folder),
      transformer_(FluxTransformerConfig::FromJson(folder.Config("transformer")),
                   folder.OpenWeights("transformer")),
      vae_(AutoencoderKlConfig::FromJson(folder.Config("vae")), folder.OpenWeights("vae")) {
  SetScheduler({.sigmas = EvenSigmas,
                .leaves_flow_sigmas = true,
                .shifts_by_tokens = true,
                .draws_packed_noise = true});
  const FluxTransformerConfig& config = transformer_.config();
  CheckTransformerField("in_channels", config.in_channels, "the VAE",
                        kPatch * kPatch * vae_.config().latent_channels);
  CheckTransformerField("out_channels", config.out_channels, "the VAE", config.in_channels);
  CheckTransformerField("joint_attention_dim", config.joint_attention_dim, "text_encoder_2",
                        text_.sequence_dim());
  CheckTransformerField("pooled_projection_dim", config.pooled_projection_dim, "text_encoder",
                        text_.pooled_dim());
  AddComponent("text_encoder", text_.clip_weights());
  AddComponent("text_encoder_2", text_.t5_weights());
  AddComponent("transformer", transformer_.weights());
  AddComponent("vae", vae_.weights());
  FamilyDefaults defaults;
  defaults.size_multiple = static_cast<int>(vae_.config().scale_factor() * kPatch);
  SetDefaults(defaults, "flux-1-dev");
}

std::unique_ptr<PipelineFamily> LoadFluxPipeline(const ModelFolder& folder) {
  return std::make_unique<FluxPipeline>(folder);
}

LatentShape FluxPipeline::LatentsOf(const GenerationSettings& settings) const {
  const int64_t scale = vae_.config().scale_factor();
  return {.channels = vae_.config().latent_channels,
          .height = settings.height / scale,
          .width = settings.width / scale,
          .patch = kPatch};
}

SparseGeometry FluxPipeline::Geometry(int64_t text_tokens, const TokenGrid& grid) const {
  return transformer_.on_cpu().Geometry(1, text_tokens, grid);
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
                                                     const TokenOrder& order,
                                                     const ImageCondition& /*image*/) const {
  FluxTransformerInputs constants;
  constants.guidance = static_cast<float>(settings.guidance_scale);
  return std::make_unique<FluxDenoiser>(
      context, transformer_.On(context),
      RotaryPositions(TokenPositions(latents, order), transformer_.config().axes_dims_rope),
      constants, kTrainingTimesteps);
}

StageBytes FluxPipeline::PlanDenoiser(const GenerationSettings& settings,
                                      const LatentShape& latents,
                                      const Placement& placement) const {
  const FluxTransformerConfig& config = transformer_.config();
  const int64_t text = settings.max_sequence_length;
  const int64_t rotary = 2 * latents.tokens() * config.attention_head_dim;
  const int64_t embeddings = (settings.use_true_cfg() ? 2 : 1) * text * config.joint_attention_dim;
  return {.held = sizeof(float) * static_cast<size_t>(rotary + embeddings),
          .workspace = transformer_.on_cpu().PlanBytes(1, text, latents.tokens(), placement)};
}

void FluxPipeline::PrepareForSparsity(Context& context) const {
  transformer_.On(context).PrepareForSparsity(context);
}

size_t FluxPipeline::SparsityWeightBytes(const Placement& placement) const {
  return transformer_.on_cpu().SparsityWeightBytes(placement);
}

void FluxPipeline::LoadOnGpu(Context& context, Context& coder) const {
  transformer_.CopyTo(context);
  text_.CopyTo(coder);
  vae_.CopyTo(coder);
}

size_t FluxPipeline::PlanTextEncoders(const GenerationSettings& settings) const {
  return text_.PlanGpuBytes(settings.max_sequence_length);
}

void FluxPipeline::Decode(Context& context, const LatentShape& shape, ConstTensorView latents,
                          const FrameSink& sink, const std::function<void()>& after_piece) const {
  const AutoencoderKlConfig& config = vae_.config();
  Tensor unpacked({1, shape.height, shape.width, shape.channels}, DType::kF32);
  UnpackLatents(
      shape, latents,
      LatentScaling::Uniform(shape.channels, 1 / config.scaling_factor, config.shift_factor),
      unpacked);
  const int64_t scale = config.scale_factor();
  Tensor pixels({1, scale * shape.height, scale * shape.width, config.out_channels}, DType::kF32);
  vae_.On(context).Decode(context, unpacked, pixels, after_piece);
  sink(pixels);
}

int FluxPipeline::NumDecodePieces(const LatentShape& latents) const {
  return static_cast<int>(vae_.on_cpu().NumTiles(latents.height, latents.width));
}

StageBytes FluxPipeline::PlanDecoder(const LatentShape& latents, const Placement& placement) const {
  const AutoencoderKlConfig& config = vae_.config();
  const int64_t pixels = latents.height * latents.width * config.scale_factor() *
                         config.scale_factor() * config.out_channels;
  const AutoencoderKl& vae = vae_.on_cpu();
  const size_t tiles = placement.IsOnGpu() ? vae.PlanHostBytes(latents.height, latents.width) : 0;
  return {.held = tiles + sizeof(float) * static_cast<size_t>(pixels + latents.size()),
          .workspace = vae.PlanBytes(latents.height, latents.width, placement)};
}

}  // namespace tamias
