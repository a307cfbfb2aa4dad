// The block of CLIP's encoders: see the header.
#include "models/clip_encoder_layer.h"

#include <cmath>

#include "io/json.h"
#include "models/activation_name.h"
#include "models/attention_heads.h"
#include "models/config_fields.h"
#include "ops/biased_attention.h"
#include "tamias/ops/norm.h"

namespace tamias {

void ClipEncoderConfig::Read(const JsonObject& json) {
  constexpr IntRange kSize = {1, 1 << 24};
  RefuseNull(json, {"hidden_act"});
  hidden_size = json.IntOr("hidden_size", hidden_size, kSize);
  intermediate_size = json.IntOr("intermediate_size", intermediate_size, kSize);
  num_hidden_layers = json.IntOr("num_hidden_layers", num_hidden_layers, {1, 1000});
  num_attention_heads = json.IntOr("num_attention_heads", num_attention_heads, {1, 1000});
  hidden_act = ActivationFromName(json, "hidden_act", json.StringOr("hidden_act", "quick_gelu"));
  layer_norm_eps = static_cast<float>(json.FloatOr("layer_norm_eps", layer_norm_eps, {0, 1}));
  if (hidden_size % num_attention_heads != 0) {
    json.FailField("num_attention_heads", "expected a divisor of hidden_size");
  }
}

ClipEncoderLayer::ClipEncoderLayer(const ClipEncoderConfig& config, const Weights& weights)
    : config_(config) {
  const int64_t d = config.hidden_size;
  norm1_ = NormLayer::Load(weights, "layer_norm1", d);
  norm2_ = NormLayer::Load(weights, "layer_norm2", d);
  query_ = LinearLayer::Load(weights, "self_attn.q_proj", d, d);
  key_ = LinearLayer::Load(weights, "self_attn.k_proj", d, d);
  value_ = LinearLayer::Load(weights, "self_attn.v_proj", d, d);
  out_ = LinearLayer::Load(weights, "self_attn.out_proj", d, d);
  fc1_ = LinearLayer::Load(weights, "mlp.fc1", d, config.intermediate_size);
  fc2_ = LinearLayer::Load(weights, "mlp.fc2", config.intermediate_size, d);
}

void ClipEncoderLayer::Forward(Context& context, bool causal, TensorView hidden) const {
  Attend(context, causal, hidden);
  FeedForward(context, hidden);
}

void ClipEncoderLayer::Attend(Context& context, bool causal, TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t heads = config_.num_attention_heads;
  const DType dtype = context.activation_dtype();
  const TensorView normed = workspace.Allocate(hidden.shape(), dtype);
  const TensorView query = workspace.Allocate(hidden.shape(), dtype);
  const TensorView key = workspace.Allocate(hidden.shape(), dtype);
  const TensorView value = workspace.Allocate(hidden.shape(), dtype);

  LayerNorm(context, hidden, norm1_.weight, norm1_.bias, config_.layer_norm_eps, normed);
  query_(context, normed, query);
  key_(context, normed, key);
  value_(context, normed, value);
  const TensorView& attended = normed;
  const auto head_dim = static_cast<float>(config_.hidden_size / heads);
  BiasedAttention(context,
                  {.query = SplitHeads(query, heads),
                   .key = SplitHeads(key, heads),
                   .value = SplitHeads(value, heads),
                   .bias = {},
                   .scale = 1.0f / std::sqrt(head_dim),
                   .causal = causal},
                  SplitHeads(attended, heads));
  out_(context, attended, hidden, {.accumulate = true});
}

void ClipEncoderLayer::FeedForward(Context& context, TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const DType dtype = context.activation_dtype();
  const TensorView normed = workspace.Allocate(hidden.shape(), dtype);
  const TensorView inner =
      workspace.Allocate({hidden.dim(0), hidden.dim(1), config_.intermediate_size}, dtype);
  LayerNorm(context, hidden, norm2_.weight, norm2_.bias, config_.layer_norm_eps, normed);
  fc1_(context, normed, inner, {.activation = config_.hidden_act});
  fc2_(context, inner, hidden, {.accumulate = true});
}

}  // namespace tamias
