#include "pipeline/mochi_pipeline.h"

#include "base/check.h"
#include "models/linear_quadratic_schedule.h"

namespace tamias {
namespace {

class MochiDenoiser final : public Denoiser {
 public:
  MochiDenoiser(Context& context, const MochiTransformer& transformer, const LatentShape& latents,
                const TokenOrder& order)
      : transformer_(transformer),
        rotary_(transformer.RotaryPositions(context, latents.grid(), order.tokens())) {}

  void Predict(Context& context, float timestep, const PromptEmbedding& prompt,
               ConstTensorView latents, SparseInvocation& invocation,
               TensorView prediction) const override {
    transformer_.Forward(context,
                         {.hidden_states = latents,
                          .encoder_hidden_states = prompt.sequence,
                          .timestep = timestep,
                          .rotary_cos = rotary_.cos,
                          .rotary_sin = rotary_.sin},
                         invocation, prediction);
  }

 private:
  const MochiTransformer& transformer_;
  RotaryTable rotary_;
};

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
    : DenoisingPipeline(folder),
      text_(folder),
      transformer_weights_(Weights::Open(folder.Component("transformer"))),
      vae_weights_(Weights::Open(folder.Component("vae"))),
      transformer_(MochiTransformerConfig::FromJson(folder.Config("transformer")),
                   transformer_weights_),
      vae_(AutoencoderKlMochiConfig::FromJson(folder.Config("vae")), vae_weights_),
      scheduler_(FlowMatchEulerConfig::FromJson(folder.Config("scheduler"))),
      force_zeros_for_empty_prompt_(JsonObject::Load(folder.path() / "model_index.json")
                                        .BoolOr("force_zeros_for_empty_prompt", false)) {
  const MochiTransformerConfig& config = transformer_.config();
  CheckTransformerField("in_channels", config.in_channels, "the VAE",
                        vae_.config().latent_channels);
  CheckTransformerField("out_channels", config.out_channels, "the VAE", config.in_channels);
  CheckTransformerField("text_embed_dim", config.text_embed_dim, "text_encoder",
                        text_.sequence_dim());
  AddComponent("text_encoder", text_.weights());
  AddComponent("transformer", transformer_weights_);
  AddComponent("vae", vae_weights_);
  SetDefaults({.width = 848,
               .height = 480,
               .steps = 64,
               .max_sequence_length = 256,
               .true_cfg_scale = 4.5,
               .num_frames = 19,
               .frame_multiple = static_cast<int>(vae_.config().temporal_scale()),
               .fps = 30,
               .size_multiple = static_cast<int>(vae_.config().spatial_scale() * config.patch_size),
               .max_sequence_length_limit = 512},
              "mochi");
}

std::unique_ptr<PipelineFamily> LoadMochiPipeline(const ModelFolder& folder) {
  return std::make_unique<MochiPipeline>(folder);
}

LatentShape MochiPipeline::LatentsOf(const GenerationSettings& settings) const {
  const AutoencoderKlMochiConfig& config = vae_.config();
  return {.channels = config.latent_channels,
          .frames = (settings.num_frames - 1) / config.temporal_scale() + 1,
          .height = settings.height / config.spatial_scale(),
          .width = settings.width / config.spatial_scale(),
          .patch = transformer_.config().patch_size};
}

SparseGeometry MochiPipeline::Geometry(int64_t text_tokens, const TokenGrid& grid) const {
  return transformer_.Geometry(1, text_tokens, grid);
}

PromptEmbedding MochiPipeline::EncodePrompt(Context& context, const std::string& prompt,
                                            const GenerationSettings& settings) const {
  // The original masks an empty prompt as a whole, end token included: nothing is left of it.
  if (prompt.empty() && force_zeros_for_empty_prompt_) {
    return {.sequence = Tensor({1, 0, text_.sequence_dim()}, DType::kF32), .pooled = {}};
  }
  return {.sequence = text_.Encode(context, prompt, settings.max_sequence_length), .pooled = {}};
}

bool MochiPipeline::IsCut(const std::string& prompt, const GenerationSettings& settings) const {
  return text_.IsCut(prompt, settings.max_sequence_length);
}

std::unique_ptr<FlowScheduler> MochiPipeline::MakeScheduler(const GenerationSettings& settings,
                                                            int64_t) const {
  return std::make_unique<FlowMatchEuler>(scheduler_, LinearQuadraticSigmas(settings.steps));
}

std::unique_ptr<Denoiser> MochiPipeline::MakeDenoiser(Context& context, const GenerationSettings&,
                                                      const LatentShape& latents,
                                                      const TokenOrder& order) const {
  return std::make_unique<MochiDenoiser>(context, transformer_, latents, order);
}

StageBytes MochiPipeline::PlanDenoiser(const GenerationSettings& settings,
                                       const LatentShape& latents) const {
  const MochiTransformerConfig& config = transformer_.config();
  const int64_t text = settings.max_sequence_length;
  const int64_t rotary = 2 * latents.tokens() * config.model_dim();
  const int64_t embeddings = 2 * text * config.text_embed_dim;
  return {.held = sizeof(float) * static_cast<size_t>(rotary + embeddings),
          .workspace = transformer_.PlanBytes(1, text, latents.tokens())};
}

void MochiPipeline::PrepareForSparsity(const Context& context) const {
  transformer_.PrepareForSparsity(context);
}

size_t MochiPipeline::SparsityWeightBytes() const { return transformer_.SparsityWeightBytes(); }

void MochiPipeline::Decode(Context& context, const LatentShape& shape, ConstTensorView latents,
                           const FrameSink& sink, const std::function<void()>& after_piece) const {
  Tensor unpacked({shape.frames, shape.height, shape.width, shape.channels}, DType::kF32);
  UnpackLatents(shape, latents, Scaling(vae_.config()), unpacked);
  vae_.Decode(context, unpacked, sink, after_piece);
}

int MochiPipeline::NumDecodePieces(const LatentShape& latents) const {
  return static_cast<int>(vae_.NumPieces(latents.frames, latents.height, latents.width));
}

StageBytes MochiPipeline::PlanDecoder(const LatentShape& latents) const {
  return {.held = sizeof(float) * static_cast<size_t>(latents.size()),
          .workspace = vae_.PlanBytes(latents.frames, latents.height, latents.width)};
}

}  // namespace tamias
