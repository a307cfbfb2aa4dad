// The Llama text encoder: see the header.
#include "models/text/llama_text_encoder.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"
#include "io/json.h"
#include "io/one_line.h"
#include "models/activation_name.h"
#include "models/attention_heads.h"
#include "models/config_fields.h"
#include "ops/biased_attention.h"
#include "ops/check_tensor.h"
#include "ops/embedding.h"
#include "tamias/device_memory.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"
#include "tamias/ops/rotary.h"

namespace tamias {
namespace {

constexpr const char* kBlocks = "layers";

// The rotary fields: "rope_parameters" as transformers 5 writes them, or "rope_theta" and
// "rope_scaling" of older versions.
void ReadRotary(const JsonObject& json, LlamaTextConfig& config) {
  constexpr FloatRange kTheta = {.min = 1, .max = 1e12};
  constexpr FloatRange kFactor = {.min = 1e-3, .max = 1e6};
  constexpr double kMaxLength = 1 << 30;
  config.rope_theta = json.FloatOr("rope_theta", config.rope_theta, kTheta);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!json.Has(key)) continue;
    const JsonObject rope = json.Object(key);
    config.rope_theta = rope.FloatOr("rope_theta", config.rope_theta, kTheta);
    const std::string type = rope.StringOr("rope_type", rope.StringOr("type", "default"));
    if (type == "default") continue;
    if (type != "llama3") {
      Fail(ErrorCode::kUnsupported,
           "{}: field '{}.rope_type': rotary scaling \"{}\" is not supported", json.source(), key,
           OneLine(type));
    }
    const double trained = json.FloatOr("max_position_embeddings", 2048, {1, kMaxLength});
    const LlamaRotaryScaling scaling = {
        .factor = rope.Float("factor", kFactor),
        .low_frequency_factor = rope.Float("low_freq_factor", kFactor),
        .high_frequency_factor = rope.Float("high_freq_factor", kFactor),
        .original_length =
            rope.FloatOr("original_max_position_embeddings", trained, {1, kMaxLength})};
    if (scaling.high_frequency_factor <= scaling.low_frequency_factor) {
      rope.FailField("high_freq_factor", "expected more than low_freq_factor");
    }
    config.rope_scaling = scaling;
  }
}

// The decoder's weights within those of the models that contain it.
Weights Decoder(const Weights& weights) {
  for (const char* prefix : {"model", "language_model.model", "model.language_model"}) {
    if (weights.Has(fmt::format("{}.embed_tokens.weight", prefix))) return weights.Sub(prefix);
  }
  return weights;
}

double Scaled(const LlamaRotaryScaling& scaling, double frequency) {
  const double periods = scaling.original_length * frequency / (2 * std::numbers::pi);
  const double kept = (periods - scaling.low_frequency_factor) /
                      (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return frequency * std::lerp(1 / scaling.factor, 1.0, std::clamp(kept, 0.0, 1.0));
}

}  // namespace

LlamaTextConfig LlamaTextConfig::FromJson(const JsonObject& file) {
  const JsonObject json = EncoderConfig(file, "", {"llama"});
  RefuseNull(json, {"hidden_act", "attention_bias", "mlp_bias"});
  constexpr IntRange kSize = {1, 1 << 24};
  constexpr IntRange kCount = {1, 1000};
  LlamaTextConfig config;
  config.vocab_size = json.IntOr("vocab_size", config.vocab_size, kSize);
  config.hidden_size = json.IntOr("hidden_size", config.hidden_size, kSize);
  config.intermediate_size = json.IntOr("intermediate_size", config.intermediate_size, kSize);
  config.num_hidden_layers = json.IntOr("num_hidden_layers", config.num_hidden_layers, kCount);
  config.num_attention_heads =
      json.IntOr("num_attention_heads", config.num_attention_heads, kCount);
  config.num_key_value_heads =
      json.IntOr("num_key_value_heads", config.num_attention_heads, kCount);
  config.head_dim =
      json.IntOr("head_dim", config.hidden_size / config.num_attention_heads, {1, 1 << 16});
  config.hidden_act = ActivationFromName(json, "hidden_act", json.StringOr("hidden_act", "silu"));
  config.rms_norm_eps =
      static_cast<float>(json.FloatOr("rms_norm_eps", config.rms_norm_eps, {0, 1}));
  config.attention_bias = json.BoolOr("attention_bias", config.attention_bias);
  config.mlp_bias = json.BoolOr("mlp_bias", config.mlp_bias);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    json.FailField("num_key_value_heads", "expected a divisor of num_attention_heads");
  }
  if (config.head_dim == 0 || config.head_dim % 2 != 0) {
    json.FailField("head_dim", fmt::format("expected an even number, found {}", config.head_dim));
  }
  ReadRotary(json, config);
  return config;
}

LlamaTextEncoder::LlamaTextEncoder(const LlamaTextConfig& config, const Weights& weights)
    : config_(config), weights_(Decoder(weights)) {
  const int64_t d = config.hidden_size;
  const int64_t query_width = config.num_attention_heads * config.head_dim;
  const int64_t key_width = config.num_key_value_heads * config.head_dim;
  const int64_t inner = config.intermediate_size;
  token_embedding_ = weights_.Get("embed_tokens.weight", {config.vocab_size, d});
  RefuseMoreLayers(weights_, kBlocks, config.num_hidden_layers, "num_hidden_layers");
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const Weights block = weights_.Sub(kBlocks, i);
    const auto attention = [&](const char* name, int64_t in, int64_t out) {
      return LinearLayer::Load(block.Sub("self_attn"), name, in, out, config.attention_bias);
    };
    const auto mlp = [&](const char* name, int64_t in, int64_t out) {
      return LinearLayer::Load(block.Sub("mlp"), name, in, out, config.mlp_bias);
    };
    layers_.push_back({.attention_norm = NormLayer::Load(block, "input_layernorm", d, false),
                       .mlp_norm = NormLayer::Load(block, "post_attention_layernorm", d, false),
                       .query = attention("q_proj", d, query_width),
                       .key = attention("k_proj", d, key_width),
                       .value = attention("v_proj", d, key_width),
                       .out = attention("o_proj", query_width, d),
                       .gate = mlp("gate_proj", d, inner),
                       .up = mlp("up_proj", d, inner),
                       .down = mlp("down_proj", inner, d)});
  }
  final_norm_ = NormLayer::Load(weights_, "norm", d, false);
}

std::vector<std::string> LlamaTextEncoder::BlockPaths() const {
  std::vector<std::string> paths;
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    paths.push_back(weights_.PathOf(kBlocks, i));
  }
  return paths;
}

void LlamaTextEncoder::Encode(Context& context, ConstTensorView tokens, int64_t layers_to_skip,
                              TensorView hidden_state) const {
  CheckTensor("Llama", "tokens", tokens, DType::kI32, {-1, -1});
  CheckContiguous("Llama", "tokens", tokens);
  CheckTensor("Llama", "hidden_state", hidden_state, DType::kF32,
              {tokens.dim(0), tokens.dim(1), config_.hidden_size});
  CheckContiguous("Llama", "hidden_state", hidden_state);
  if (tokens.dim(1) < 1) {
    Fail(ErrorCode::kInvalidArgument, "Llama: tokens: expected at least 1 per prompt, found 0");
  }
  if (layers_to_skip < 0 || layers_to_skip > config_.num_hidden_layers) {
    Fail(ErrorCode::kInvalidArgument, "Llama: layers_to_skip: expected 0 to {}, found {}",
         config_.num_hidden_layers, layers_to_skip);
  }
  Workspace::Scope scope(context.workspace());
  const RotaryTable positions = Positions(context, tokens.dim(1));
  DeviceMirror states(context, hidden_state);
  const TensorView hidden = states.device();
  Embedding(context, token_embedding_, tokens, hidden);
  for (int64_t i = 0; i < config_.num_hidden_layers - layers_to_skip; ++i) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    const WeightTurn turn(weights_, kBlocks, i, context);
    Attend(context, layer, positions, hidden);
    FeedForward(context, layer, hidden);
  }
  if (layers_to_skip == 0) {
    RmsNorm(context, hidden, final_norm_.weight, config_.rms_norm_eps, hidden);
  }
  states.Download(context);
}

Tensor LlamaTextEncoder::Encode(Context& context, std::span<const int32_t> tokens,
                                int64_t layers_to_skip) const {
  const Shape shape = {1, std::ssize(tokens)};
  Tensor hidden_state = HostTensor(context, {shape[0], shape[1], config_.hidden_size}, DType::kF32);
  Encode(context, ConstTensorView(tokens.data(), DType::kI32, shape), layers_to_skip, hidden_state);
  return hidden_state;
}

RotaryTable LlamaTextEncoder::Positions(Context& context, int64_t length) const {
  const int64_t width = config_.head_dim;
  return MakeRotaryTable(context, {length, width}, [&](TensorView cos_table, TensorView sin_table) {
    for (int64_t i = 0; i < width; i += 2) {
      double frequency =
          std::pow(config_.rope_theta, -static_cast<double>(i) / static_cast<double>(width));
      if (config_.rope_scaling) frequency = Scaled(*config_.rope_scaling, frequency);
      for (int64_t token = 0; token < length; ++token) {
        const double angle = static_cast<double>(token) * frequency;
        float* cos = cos_table.host_data<float>() + token * width + i;
        float* sin = sin_table.host_data<float>() + token * width + i;
        cos[0] = cos[1] = static_cast<float>(std::cos(angle));
        sin[0] = sin[1] = static_cast<float>(std::sin(angle));
      }
    }
  });
}

void LlamaTextEncoder::ProjectAndRotate(Context& context, const LinearLayer& projection,
                                        ConstTensorView normed, const RotaryTable& positions,
                                        TensorView heads) const {
  Workspace::Scope scope(context.workspace());
  const int64_t batch = heads.dim(0), num_heads = heads.dim(1), length = heads.dim(2);
  const int64_t half = config_.head_dim / 2;
  const TensorView projected = context.workspace().Allocate(
      {batch, length, num_heads * config_.head_dim}, context.activation_dtype());
  projection(context, normed, projected);
  // Llama turns the pairs (i, i + D/2), the operation adjacent ones: the halves are interleaved.
  // Query and key are so alike, and their products do not depend on the order of the components.
  Copy(context, SplitHeads(projected, num_heads).SplitAxis(3, 2, half).Permute({0, 1, 2, 4, 3}),
       heads.SplitAxis(3, half, 2));
  RmsNormRotary(context, heads, /*norm_weight=*/{}, /*epsilon=*/0, positions.cos, positions.sin,
                heads);
}

void LlamaTextEncoder::Attend(Context& context, const Layer& layer, const RotaryTable& positions,
                              TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t batch = hidden.dim(0), length = hidden.dim(1), head_dim = config_.head_dim;
  const int64_t query_heads = config_.num_attention_heads;
  const int64_t key_heads = config_.num_key_value_heads;
  const int64_t group = query_heads / key_heads;
  const DType dtype = context.activation_dtype();
  const TensorView normed = workspace.Allocate(hidden.shape(), dtype);
  const TensorView query = workspace.Allocate({batch, query_heads, length, head_dim}, dtype);
  const TensorView key = workspace.Allocate({batch, key_heads, length, head_dim}, dtype);
  const TensorView value = workspace.Allocate({batch, length, key_heads * head_dim}, dtype);
  const TensorView attended = workspace.Allocate({batch, length, query_heads * head_dim}, dtype);

  RmsNorm(context, hidden, layer.attention_norm.weight, config_.rms_norm_eps, normed);
  ProjectAndRotate(context, layer.query, normed, positions, query);
  ProjectAndRotate(context, layer.key, normed, positions, key);
  layer.value(context, normed, value);
  const TensorView value_heads = SplitHeads(value, key_heads);
  const TensorView attended_heads = SplitHeads(attended, query_heads);
  for (int64_t i = 0; i < key_heads; ++i) {
    // One key and value head seen by all query heads of its group: stride 0 over the group.
    const auto shared = [&](const ConstTensorView& heads) {
      const ConstTensorView head = heads.Select(1, i);
      return ConstTensorView(head.raw(), dtype, {batch, group, length, head_dim},
                             {head.stride(0), 0, head.stride(1), 1}, head.device());
    };
    BiasedAttention(context,
                    {.query = query.Slice(1, i * group, (i + 1) * group),
                     .key = shared(key),
                     .value = shared(value_heads),
                     .scale = 1.0f / std::sqrt(static_cast<float>(head_dim)),
                     .causal = true},
                    attended_heads.Slice(1, i * group, (i + 1) * group));
  }
  layer.out(context, attended, hidden, {.accumulate = true});
}

void LlamaTextEncoder::FeedForward(Context& context, const Layer& layer, TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const Shape inner = {hidden.dim(0), hidden.dim(1), config_.intermediate_size};
  const DType dtype = context.activation_dtype();
  const TensorView normed = workspace.Allocate(hidden.shape(), dtype);
  const TensorView gate = workspace.Allocate(inner, dtype);
  const TensorView up = workspace.Allocate(inner, dtype);

  RmsNorm(context, hidden, layer.mlp_norm.weight, config_.rms_norm_eps, normed);
  layer.gate(context, normed, gate, {.activation = config_.hidden_act});
  layer.up(context, normed, up);
  Multiply(context, gate, up, up);
  layer.down(context, up, hidden, {.accumulate = true});
}

}  // namespace tamias
