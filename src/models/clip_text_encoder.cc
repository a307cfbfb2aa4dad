// The CLIP text encoder: see the header.
#include "models/clip_text_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/device_memory.h"
#include "io/json.h"
#include "models/activation_name.h"
#include "models/attention_heads.h"
#include "ops/biased_attention.h"
#include "ops/check_tensor.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/norm.h"

namespace tamias {
namespace {

constexpr int64_t kLegacyEndToken = 2;  // configs from before transformers 4.31 carry this value

// Where the sequence ends: the row of the state that stands for the whole prompt.
int64_t EndPosition(const int32_t* tokens, int64_t length, int64_t eos_token_id) {
  if (eos_token_id == kLegacyEndToken) return std::max_element(tokens, tokens + length) - tokens;
  const int32_t* end = std::find(tokens, tokens + length, static_cast<int32_t>(eos_token_id));
  return end == tokens + length ? 0 : end - tokens;
}

}  // namespace

ClipTextConfig ClipTextConfig::FromJson(const JsonObject& json) {
  constexpr IntRange kSize = {1, 1 << 24};
  ClipTextConfig config;
  config.vocab_size = json.IntOr("vocab_size", config.vocab_size, kSize);
  config.hidden_size = json.IntOr("hidden_size", config.hidden_size, kSize);
  config.intermediate_size = json.IntOr("intermediate_size", config.intermediate_size, kSize);
  config.num_hidden_layers = json.IntOr("num_hidden_layers", config.num_hidden_layers, {1, 1000});
  config.num_attention_heads =
      json.IntOr("num_attention_heads", config.num_attention_heads, {1, 1000});
  config.max_position_embeddings =
      json.IntOr("max_position_embeddings", config.max_position_embeddings, kSize);
  config.hidden_act =
      ActivationFromName(json, "hidden_act", json.StringOr("hidden_act", "quick_gelu"));
  config.layer_norm_eps =
      static_cast<float>(json.FloatOr("layer_norm_eps", config.layer_norm_eps, {0, 1}));
  config.eos_token_id = json.IntOr("eos_token_id", config.eos_token_id, {0, 1 << 24});
  if (config.hidden_size % config.num_attention_heads != 0) {
    json.FailField("num_attention_heads", "expected a divisor of hidden_size");
  }
  return config;
}

ClipTextEncoder::ClipTextEncoder(const ClipTextConfig& config, const Weights& weights)
    : config_(config),
      weights_(weights.Has("text_model.final_layer_norm.weight") ? weights.Sub("text_model")
                                                                 : weights) {
  const int64_t d = config.hidden_size;
  token_embedding_ = weights_.Get("embeddings.token_embedding.weight", {config.vocab_size, d});
  position_embedding_ =
      weights_.Get("embeddings.position_embedding.weight", {config.max_position_embeddings, d});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const Weights block = weights_.Sub("encoder.layers", i);
    layers_.push_back({.norm1 = NormLayer::Load(block, "layer_norm1", d),
                       .norm2 = NormLayer::Load(block, "layer_norm2", d),
                       .query = LinearLayer::Load(block, "self_attn.q_proj", d, d),
                       .key = LinearLayer::Load(block, "self_attn.k_proj", d, d),
                       .value = LinearLayer::Load(block, "self_attn.v_proj", d, d),
                       .out = LinearLayer::Load(block, "self_attn.out_proj", d, d),
                       .fc1 = LinearLayer::Load(block, "mlp.fc1", d, config.intermediate_size),
                       .fc2 = LinearLayer::Load(block, "mlp.fc2", config.intermediate_size, d)});
  }
  final_norm_ = NormLayer::Load(weights_, "final_layer_norm", d);
}

void ClipTextEncoder::Encode(Context& context, ConstTensorView tokens, TensorView last_hidden_state,
                             TensorView pooled) const {
  CheckTensor("CLIP", "tokens", tokens, DType::kI32, {-1, -1});
  CheckContiguous("CLIP", "tokens", tokens);
  const int64_t batch = tokens.dim(0);
  const int64_t length = tokens.dim(1);
  const Shape shape = {batch, length, config_.hidden_size};
  if (length < 1 || length > config_.max_position_embeddings) {
    Fail(ErrorCode::kInvalidArgument, "CLIP: tokens: expected 1 to {} per prompt, found {}",
         config_.max_position_embeddings, length);
  }
  CheckTensor("CLIP", "pooled", pooled, DType::kF32, {batch, config_.hidden_size});
  Workspace::Scope scope(context.workspace());
  const TensorView hidden = context.workspace().Allocate(shape);
  Tensor unwanted;
  if (last_hidden_state.empty()) {
    unwanted = Tensor(shape, DType::kF32);
    last_hidden_state = unwanted;
  }
  CheckTensor("CLIP", "last_hidden_state", last_hidden_state, DType::kF32, shape);
  DeviceMirror states(context, last_hidden_state);

  EmbedTokens(context, tokens, hidden);
  for (const Layer& layer : layers_) RunLayer(context, layer, hidden);
  LayerNorm(context, hidden, final_norm_.weight, final_norm_.bias, config_.layer_norm_eps,
            states.device());
  states.Download(context);
  for (int64_t row = 0; row < batch; ++row) {
    const int64_t end =
        EndPosition(tokens.Select(0, row).data<int32_t>(), length, config_.eos_token_id);
    CopyTensor(last_hidden_state.Select(0, row).Select(0, end), pooled.Select(0, row));
  }
}

size_t ClipTextEncoder::PlanGpuBytes(int64_t length) const {
  const int64_t d = config_.hidden_size;
  const int64_t residual = 3 * length * d;  // fp32: hidden, positions, last hidden state
  const int64_t activations = length * (5 * d + config_.intermediate_size);
  constexpr size_t kVectors = size_t{1} << 16;  // biases in fp32, ends of lines
  return 4 * static_cast<size_t>(residual) + 2 * static_cast<size_t>(activations) +
         cuda::BiasedAttentionScratchBytes(config_.num_attention_heads, length, length) + kVectors;
}

void ClipTextEncoder::EmbedTokens(Context& context, ConstTensorView tokens,
                                  TensorView hidden) const {
  const int64_t length = tokens.dim(1);
  Workspace::Scope scope(context.workspace());
  const TensorView positions = context.workspace().Allocate({length, config_.hidden_size});
  Convert(context, position_embedding_.Slice(0, 0, length), positions);
  Embedding(context, token_embedding_, tokens, hidden);
  for (int64_t row = 0; row < tokens.dim(0); ++row) {
    Add(context, hidden.Select(0, row), positions, hidden.Select(0, row));
  }
}

void ClipTextEncoder::RunLayer(Context& context, const Layer& layer, TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t heads = config_.num_attention_heads;
  const DType dtype = context.activation_dtype();
  const TensorView normed = workspace.Allocate(hidden.shape(), dtype);
  const TensorView query = workspace.Allocate(hidden.shape(), dtype);
  const TensorView key = workspace.Allocate(hidden.shape(), dtype);
  const TensorView value = workspace.Allocate(hidden.shape(), dtype);
  const TensorView attended = workspace.Allocate(hidden.shape(), dtype);

  LayerNorm(context, hidden, layer.norm1.weight, layer.norm1.bias, config_.layer_norm_eps, normed);
  layer.query(context, normed, query);
  layer.key(context, normed, key);
  layer.value(context, normed, value);
  const auto head_dim = static_cast<float>(config_.hidden_size / heads);
  BiasedAttention(context,
                  {.query = SplitHeads(query, heads),
                   .key = SplitHeads(key, heads),
                   .value = SplitHeads(value, heads),
                   .bias = {},
                   .scale = 1.0f / std::sqrt(head_dim),
                   .causal = true},
                  SplitHeads(attended, heads));
  layer.out(context, attended, hidden, {.accumulate = true});

  const TensorView inner =
      workspace.Allocate({hidden.dim(0), hidden.dim(1), config_.intermediate_size}, dtype);
  LayerNorm(context, hidden, layer.norm2.weight, layer.norm2.bias, config_.layer_norm_eps, normed);
  layer.fc1(context, normed, inner, {.activation = config_.hidden_act});
  layer.fc2(context, inner, hidden, {.accumulate = true});
}

}  // namespace tamias
