// HunyuanVideo, from latent tokens to the predicted velocity: see the header.
#include "models/transformers/hunyuan_video_transformer.h"

#include "base/check.h"
#include "io/json.h"
#include "models/config_fields.h"
#include "models/transformers/rotary_positions.h"
#include "ops/check_tensor.h"

namespace tamias {

HunyuanVideoTransformerConfig HunyuanVideoTransformerConfig::FromJson(const JsonObject& json) {
  constexpr IntRange kSize = {1, 1 << 20};
  constexpr IntRange kCount = {0, 10'000};
  HunyuanVideoTransformerConfig config;
  if (json.Has("image_condition_type")) {
    Fail(ErrorCode::kUnsupported,
         "{}: field 'image_condition_type': image-to-video models are not supported, found \"{}\"",
         json.source(), json.String("image_condition_type"));
  }
  RequireName(json, "qk_norm", "rms_norm");
  RefuseNull(json, {"in_channels", "num_attention_heads", "attention_head_dim", "num_layers",
                    "num_single_layers", "num_refiner_layers", "mlp_ratio", "patch_size",
                    "patch_size_t", "guidance_embeds", "text_embed_dim", "pooled_projection_dim",
                    "rope_theta", "rope_axes_dim"});
  config.in_channels = json.IntOr("in_channels", config.in_channels, kSize);
  config.out_channels = json.IntOr("out_channels", config.in_channels, kSize);
  config.num_attention_heads =
      json.IntOr("num_attention_heads", config.num_attention_heads, {1, 4096});
  config.attention_head_dim =
      json.IntOr("attention_head_dim", config.attention_head_dim, {2, 4096});
  config.num_layers = json.IntOr("num_layers", config.num_layers, kCount);
  config.num_single_layers = json.IntOr("num_single_layers", config.num_single_layers, kCount);
  config.num_refiner_layers = json.IntOr("num_refiner_layers", config.num_refiner_layers, kCount);
  config.mlp_ratio = json.FloatOr("mlp_ratio", config.mlp_ratio, {.min = 1, .max = 64});
  config.patch_size = json.IntOr("patch_size", config.patch_size, {1, 64});
  config.patch_size_t = json.IntOr("patch_size_t", config.patch_size_t, {1, 64});
  config.guidance_embeds = json.BoolOr("guidance_embeds", config.guidance_embeds);
  config.text_embed_dim = json.IntOr("text_embed_dim", config.text_embed_dim, kSize);
  config.pooled_projection_dim =
      json.IntOr("pooled_projection_dim", config.pooled_projection_dim, kSize);
  config.rope_theta = json.FloatOr("rope_theta", config.rope_theta, {.min = 1, .max = 1e9});
  config.rope_axes_dim = RotaryAxes(json, "rope_axes_dim", config.attention_head_dim);
  if (config.num_layers + config.num_single_layers == 0) {
    json.FailField("num_layers", "the model has no blocks");
  }
  return config;
}

JointTransformerShape HunyuanVideoTransformerConfig::joint_shape() const {
  return {.block = {.num_heads = num_attention_heads,
                    .head_dim = attention_head_dim,
                    .mlp_dim = static_cast<int64_t>(static_cast<double>(model_dim()) * mlp_ratio)},
          .num_layers = num_layers,
          .num_single_layers = num_single_layers,
          .out_channels = out_channels * patch_elements()};
}

HunyuanVideoTransformer::HunyuanVideoTransformer(const HunyuanVideoTransformerConfig& config,
                                                 const Weights& weights)
    : config_(config),
      weights_(weights),
      context_embedder_({.text_dim = config.text_embed_dim,
                         .num_heads = config.num_attention_heads,
                         .head_dim = config.attention_head_dim,
                         .num_layers = config.num_refiner_layers},
                        weights.Sub("context_embedder")),
      conditioning_embedder_(weights.Sub("time_text_embed"), config.pooled_projection_dim,
                             config.model_dim(), config.guidance_embeds),
      joint_(config.joint_shape(), weights) {
  const int64_t d = config.model_dim();
  const int64_t p = config.patch_size;
  // A convolution whose stride is its kernel: a linear layer over patches.
  x_embedder_.weight =
      weights.Get("x_embedder.proj.weight", {d, config.in_channels, config.patch_size_t, p, p})
          .Reshape({d, config.in_channels * config.patch_elements()});
  x_embedder_.bias = weights.Get("x_embedder.proj.bias", {d});
}

void HunyuanVideoTransformer::CheckInputs(const HunyuanVideoTransformerInputs& inputs,
                                          ConstTensorView prediction) const {
  const ConstTensorView& video = inputs.hidden_states;
  const ConstTensorView& text = inputs.encoder_hidden_states;
  const int64_t places = config_.patch_elements();
  CheckTensor("HunyuanVideo", "hidden_states", video, DType::kF32,
              {-1, -1, config_.in_channels * places});
  CheckTensor("HunyuanVideo", "encoder_hidden_states", text, DType::kF32,
              {video.dim(0), -1, config_.text_embed_dim});
  if (text.dim(1) == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "HunyuanVideo: encoder_hidden_states: expected at least one token, found none");
  }
  CheckTensor("HunyuanVideo", "pooled_projections", inputs.pooled_projections, DType::kF32,
              {video.dim(0), config_.pooled_projection_dim});
  const Shape rotary = {video.dim(1), config_.attention_head_dim};
  CheckTensor("HunyuanVideo", "rotary_cos", inputs.rotary_cos, DType::kF32, rotary);
  CheckTensor("HunyuanVideo", "rotary_sin", inputs.rotary_sin, DType::kF32, rotary);
  CheckTensor("HunyuanVideo", "prediction", prediction, DType::kF32,
              {video.dim(0), video.dim(1), config_.out_channels * places});
}

void HunyuanVideoTransformer::Forward(Context& context, const HunyuanVideoTransformerInputs& inputs,
                                      SparseInvocation& invocation, TensorView prediction) const {
  CheckInputs(inputs, prediction);
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t batch = inputs.hidden_states.dim(0);
  const ConstTensorView text = invocation.OwnText(inputs.encoder_hidden_states);
  const int64_t text_tokens = text.dim(1);
  const int64_t tokens = text_tokens + inputs.hidden_states.dim(1);
  const TensorView hidden = workspace.Allocate({batch, tokens, config_.model_dim()}, DType::kF32);
  const TensorView sinusoids =
      workspace.Allocate({batch, ConditioningEmbedding::kSinusoids}, DType::kF32);
  SinusoidalEmbedding(context, inputs.timestep, sinusoids);
  const TensorView conditioning = workspace.Allocate({batch, config_.model_dim()}, DType::kF32);
  conditioning_embedder_(
      context,
      {.sinusoids = sinusoids, .guidance = inputs.guidance, .pooled = inputs.pooled_projections},
      conditioning);
  const JointBlockInputs block_inputs = {.silu_conditioning = conditioning,
                                         .rotary_cos = inputs.rotary_cos,
                                         .rotary_sin = inputs.rotary_sin,
                                         .text_tokens = text_tokens};
  if (!invocation.IsSkipped()) {
    if (text_tokens > 0) {
      context_embedder_.Forward(context, sinusoids, text, hidden.Slice(1, 0, text_tokens));
    }
    x_embedder_(context, inputs.hidden_states, hidden.Slice(1, text_tokens, tokens));
  }
  joint_.Forward(context, block_inputs, invocation, hidden, prediction);
}

}  // namespace tamias
