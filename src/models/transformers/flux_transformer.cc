// FLUX.1, from latent tokens to the predicted velocity: see the header.
#include "models/transformers/flux_transformer.h"

#include "base/check.h"
#include "io/json.h"
#include "models/config_fields.h"
#include "models/transformers/rotary_positions.h"
#include "ops/check_tensor.h"

namespace tamias {

FluxTransformerConfig FluxTransformerConfig::FromJson(const JsonObject& json) {
  constexpr IntRange kSize = {1, 1 << 20};
  constexpr IntRange kCount = {0, 10'000};
  FluxTransformerConfig config;
  RefuseNull(json, {"patch_size", "in_channels", "num_layers", "num_single_layers",
                    "attention_head_dim", "num_attention_heads", "joint_attention_dim",
                    "pooled_projection_dim", "guidance_embeds", "axes_dims_rope"});
  if (json.IntOr("patch_size", 1, kSize) != 1) {
    Fail(ErrorCode::kUnsupported, "{}: field 'patch_size': only 1 is supported", json.source());
  }
  config.in_channels = json.IntOr("in_channels", config.in_channels, kSize);
  config.out_channels = json.IntOr("out_channels", config.in_channels, kSize);
  config.num_layers = json.IntOr("num_layers", config.num_layers, kCount);
  config.num_single_layers = json.IntOr("num_single_layers", config.num_single_layers, kCount);
  config.attention_head_dim =
      json.IntOr("attention_head_dim", config.attention_head_dim, {2, 4096});
  config.num_attention_heads =
      json.IntOr("num_attention_heads", config.num_attention_heads, {1, 4096});
  config.joint_attention_dim = json.IntOr("joint_attention_dim", config.joint_attention_dim, kSize);
  config.pooled_projection_dim =
      json.IntOr("pooled_projection_dim", config.pooled_projection_dim, kSize);
  config.guidance_embeds = json.BoolOr("guidance_embeds", config.guidance_embeds);
  config.axes_dims_rope = RotaryAxes(json, "axes_dims_rope", config.attention_head_dim);
  if (config.num_layers + config.num_single_layers == 0) {
    json.FailField("num_layers", "the model has no blocks");
  }
  return config;
}

JointTransformerShape FluxTransformerConfig::joint_shape() const {
  return {.block = {.num_heads = num_attention_heads,
                    .head_dim = attention_head_dim,
                    .mlp_dim = 4 * model_dim()},
          .num_layers = num_layers,
          .num_single_layers = num_single_layers,
          .out_channels = out_channels};
}

FluxTransformer::FluxTransformer(const FluxTransformerConfig& config, const Weights& weights)
    : config_(config),
      weights_(weights),
      conditioning_embedder_(weights.Sub("time_text_embed"), config.pooled_projection_dim,
                             config.model_dim(), config.guidance_embeds),
      joint_(config.joint_shape(), weights) {
  const int64_t d = config.model_dim();
  x_embedder_ = LinearLayer::Load(weights, "x_embedder", config.in_channels, d);
  context_embedder_ = LinearLayer::Load(weights, "context_embedder", config.joint_attention_dim, d);
}

void FluxTransformer::CheckInputs(const FluxTransformerInputs& inputs,
                                  ConstTensorView prediction) const {
  const ConstTensorView& image = inputs.hidden_states;
  CheckTensor("FLUX", "hidden_states", image, DType::kF32, {-1, -1, config_.in_channels});
  const int64_t batch = image.dim(0);
  const ConstTensorView& text = inputs.encoder_hidden_states;
  CheckTensor("FLUX", "encoder_hidden_states", text, DType::kF32,
              {batch, -1, config_.joint_attention_dim});
  CheckTensor("FLUX", "pooled_projections", inputs.pooled_projections, DType::kF32,
              {batch, config_.pooled_projection_dim});
  const Shape rotary = {image.dim(1), config_.attention_head_dim};
  CheckTensor("FLUX", "rotary_cos", inputs.rotary_cos, DType::kF32, rotary);
  CheckTensor("FLUX", "rotary_sin", inputs.rotary_sin, DType::kF32, rotary);
  CheckTensor("FLUX", "prediction", prediction, DType::kF32,
              {batch, image.dim(1), config_.out_channels});
}

TensorView FluxTransformer::EmbedConditioning(Context& context,
                                              const FluxTransformerInputs& inputs) const {
  const int64_t batch = inputs.pooled_projections.dim(0);
  const TensorView conditioning =
      context.workspace().Allocate({batch, config_.model_dim()}, DType::kF32);
  Workspace::Scope scope(context.workspace());
  const TensorView sinusoids =
      context.workspace().Allocate({batch, ConditioningEmbedding::kSinusoids}, DType::kF32);
  SinusoidalEmbedding(context, 1000.0f * inputs.timestep, sinusoids);
  conditioning_embedder_(
      context,
      {.sinusoids = sinusoids, .guidance = inputs.guidance, .pooled = inputs.pooled_projections},
      conditioning);
  return conditioning;
}

void FluxTransformer::Forward(Context& context, const FluxTransformerInputs& inputs,
                              SparseInvocation& invocation, TensorView prediction) const {
  CheckInputs(inputs, prediction);
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t batch = inputs.hidden_states.dim(0);
  const ConstTensorView text = invocation.OwnText(inputs.encoder_hidden_states);
  const int64_t text_tokens = text.dim(1);
  const int64_t tokens = text_tokens + inputs.hidden_states.dim(1);
  const TensorView hidden = workspace.Allocate({batch, tokens, config_.model_dim()}, DType::kF32);
  const JointBlockInputs block_inputs = {.silu_conditioning = EmbedConditioning(context, inputs),
                                         .rotary_cos = inputs.rotary_cos,
                                         .rotary_sin = inputs.rotary_sin,
                                         .text_tokens = text_tokens};

  if (!invocation.IsSkipped()) {
    context_embedder_(context, text, hidden.Slice(1, 0, text_tokens));
    x_embedder_(context, inputs.hidden_states, hidden.Slice(1, text_tokens, tokens));
  }
  joint_.Forward(context, block_inputs, invocation, hidden, prediction);
}

}  // namespace tamias
