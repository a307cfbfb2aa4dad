// The CLIP text encoder: see the header.
#include "models/text/clip_text_encoder.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "io/json.h"
#include "models/config_fields.h"
#include "ops/check_tensor.h"
#include "ops/embedding.h"
#include "tamias/device_memory.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr const char* kLayers = "encoder.layers";
constexpr int64_t kLegacyEndToken = 2;  // configs from before transformers 4.31 carry this value

// Where the sequence ends: the row of the state that stands for the whole prompt.
int64_t EndPosition(const int32_t* tokens, int64_t length, int64_t eos_token_id) {
  if (eos_token_id == kLegacyEndToken) return std::max_element(tokens, tokens + length) - tokens;
  const int32_t* end = std::find(tokens, tokens + length, static_cast<int32_t>(eos_token_id));
  return end == tokens + length ? 0 : end - tokens;
}

}  // namespace

ClipTextConfig ClipTextConfig::FromJson(const JsonObject& file) {
  const JsonObject json = EncoderConfig(file, "text_config", {"clip_text_model"});
  constexpr IntRange kSize = {1, 1 << 24};
  ClipTextConfig config;
  config.Read(json);
  config.vocab_size = json.IntOr("vocab_size", config.vocab_size, kSize);
  config.max_position_embeddings =
      json.IntOr("max_position_embeddings", config.max_position_embeddings, kSize);
  config.eos_token_id = json.IntOr("eos_token_id", config.eos_token_id, {0, 1 << 24});
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
  RefuseMoreLayers(weights_, kLayers, config.num_hidden_layers, "num_hidden_layers");
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    layers_.emplace_back(config, weights_.Sub(kLayers, i));
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
  const TensorView hidden = context.workspace().Allocate(shape, DType::kF32);
  std::optional<DeviceMirror> wanted;
  if (!last_hidden_state.empty()) {
    CheckTensor("CLIP", "last_hidden_state", last_hidden_state, DType::kF32, shape);
    wanted.emplace(context, last_hidden_state);
  }
  const TensorView states =
      wanted ? wanted->device() : context.workspace().Allocate(shape, DType::kF32);
  DeviceMirror pooled_states(context, pooled);

  EmbedTokens(context, tokens, hidden);
  for (const ClipEncoderLayer& layer : layers_) layer.Forward(context, /*causal=*/true, hidden);
  LayerNorm(context, hidden, final_norm_.weight, final_norm_.bias, config_.layer_norm_eps, states);
  if (!context.IsPlanning()) {
    for (int64_t row = 0; row < batch; ++row) {
      const int64_t end =
          EndPosition(tokens.Select(0, row).host_data<int32_t>(), length, config_.eos_token_id);
      Copy(context, states.Select(0, row).Select(0, end), pooled_states.device().Select(0, row));
    }
  }
  if (wanted) wanted->Download(context);
  pooled_states.Download(context);
}

void ClipTextEncoder::EmbedTokens(Context& context, ConstTensorView tokens,
                                  TensorView hidden) const {
  const int64_t length = tokens.dim(1);
  Workspace::Scope scope(context.workspace());
  const TensorView positions =
      context.workspace().Allocate({length, config_.hidden_size}, DType::kF32);
  Convert(context, position_embedding_.Slice(0, 0, length), positions);
  Embedding(context, token_embedding_, tokens, hidden);
  for (int64_t row = 0; row < tokens.dim(0); ++row) {
    Add(context, hidden.Select(0, row), positions, hidden.Select(0, row));
  }
}

}  // namespace tamias
