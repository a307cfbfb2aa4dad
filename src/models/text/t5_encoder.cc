// The T5 encoder: see the header.
#include "models/text/t5_encoder.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "io/json.h"
#include "models/activation_name.h"
#include "models/attention_heads.h"
#include "models/config_fields.h"
#include "ops/biased_attention.h"
#include "ops/check_tensor.h"
#include "ops/embedding.h"
#include "tamias/device_memory.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr const char* kBlocks = "encoder.block";

// The bias [H, L, L] as a view of its diagonals: it depends on key - query alone.
ConstTensorView BiasOf(const ConstTensorView& diagonals, int64_t length) {
  const ConstTensorView first = diagonals.Slice(1, length - 1, diagonals.dim(1));  // of query 0
  return ConstTensorView(first.raw(), first.dtype(), {diagonals.dim(0), length, length},
                         {diagonals.stride(0), -1, 1}, first.device());
}

}  // namespace

int64_t RelativePositionBucket(int64_t relative_position, int64_t num_buckets,
                               int64_t max_distance) {
  const int64_t half = num_buckets / 2;
  const int64_t base = relative_position > 0 ? half : 0;
  const int64_t distance = std::abs(relative_position);
  const int64_t max_exact = half / 2;
  if (distance < max_exact) return base + distance;
  // fp32 as in transformers: distances on the edge of a bucket must fall to the same side.
  const float octaves = std::log(static_cast<float>(distance) / static_cast<float>(max_exact)) /
                        static_cast<float>(std::log(static_cast<double>(max_distance) /
                                                    static_cast<double>(max_exact)));
  const auto step = static_cast<int64_t>(octaves * static_cast<float>(half - max_exact));
  return base + std::min(max_exact + step, half - 1);
}

T5Config T5Config::FromJson(const JsonObject& file) {
  constexpr IntRange kSize = {1, 1 << 24};
  const JsonObject json = EncoderConfig(file, "", {"t5", "umt5", "mt5"});
  RefuseNull(json, {"feed_forward_proj"});
  T5Config config;
  config.vocab_size = json.IntOr("vocab_size", config.vocab_size, kSize);
  config.d_model = json.IntOr("d_model", config.d_model, kSize);
  config.d_kv = json.IntOr("d_kv", config.d_kv, kSize);
  config.d_ff = json.IntOr("d_ff", config.d_ff, kSize);
  config.num_layers = json.IntOr("num_layers", config.num_layers, {1, 1000});
  config.num_heads = json.IntOr("num_heads", config.num_heads, {1, 1000});
  config.relative_attention_num_buckets = json.IntOr(
      "relative_attention_num_buckets", config.relative_attention_num_buckets, {4, 1 << 16});
  config.relative_attention_max_distance =
      json.IntOr("relative_attention_max_distance", config.relative_attention_max_distance,
                 {config.relative_attention_num_buckets / 4 + 1, 1 << 24});
  config.layer_norm_epsilon =
      static_cast<float>(json.FloatOr("layer_norm_epsilon", config.layer_norm_epsilon, {0, 1}));
  const std::string projection = json.StringOr("feed_forward_proj", "relu");
  config.is_gated_act = projection.starts_with("gated-");
  config.dense_act =
      projection == "gated-gelu"  // T5 v1.1 means the tanh form by this name
          ? Activation::kGeluTanh
          : ActivationFromName(json, "feed_forward_proj",
                               config.is_gated_act ? projection.substr(6) : projection);
  config.bias_per_layer = json.StringOr("model_type", "t5") == "umt5";
  return config;
}

T5Encoder::T5Encoder(const T5Config& config, const Weights& weights)
    : config_(config), weights_(weights) {
  const int64_t d = config.d_model;
  const int64_t inner = config.num_heads * config.d_kv;
  token_embedding_ =
      weights.Get(weights.Has("shared.weight") ? "shared.weight" : "encoder.embed_tokens.weight",
                  {config.vocab_size, d});
  RefuseMoreLayers(weights, kBlocks, config.num_layers, "num_layers");
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const Weights block = weights.Sub(kBlocks, i);
    const Weights attention = block.Sub("layer.0.SelfAttention");
    const Weights mlp = block.Sub("layer.1.DenseReluDense");
    Layer layer;
    layer.attention_norm = NormLayer::Load(block, "layer.0.layer_norm", d, false);
    layer.mlp_norm = NormLayer::Load(block, "layer.1.layer_norm", d, false);
    layer.query = LinearLayer::Load(attention, "q", d, inner, false);
    layer.key = LinearLayer::Load(attention, "k", d, inner, false);
    layer.value = LinearLayer::Load(attention, "v", d, inner, false);
    layer.out = LinearLayer::Load(attention, "o", inner, d, false);
    if (config.is_gated_act) layer.gate = LinearLayer::Load(mlp, "wi_0", d, config.d_ff, false);
    layer.up = LinearLayer::Load(mlp, config.is_gated_act ? "wi_1" : "wi", d, config.d_ff, false);
    layer.down = LinearLayer::Load(mlp, "wo", config.d_ff, d, false);
    if (i == 0 || config.bias_per_layer) {
      layer.relative_bias =
          attention.Get("relative_attention_bias.weight",
                        {config.relative_attention_num_buckets, config.num_heads});
    }
    layers_.push_back(layer);
  }
  final_norm_ = NormLayer::Load(weights, "encoder.final_layer_norm", d, false);
}

std::vector<std::string> T5Encoder::BlockPaths() const {
  std::vector<std::string> paths;
  for (int64_t i = 0; i < std::ssize(layers_); ++i) paths.push_back(weights_.PathOf(kBlocks, i));
  return paths;
}

void T5Encoder::Encode(Context& context, ConstTensorView tokens,
                       TensorView last_hidden_state) const {
  CheckTensor("T5", "tokens", tokens, DType::kI32, {-1, -1});
  CheckContiguous("T5", "tokens", tokens);
  const int64_t length = tokens.dim(1);
  const Shape shape = {tokens.dim(0), length, config_.d_model};
  CheckTensor("T5", "last_hidden_state", last_hidden_state, DType::kF32, shape);
  Workspace::Scope scope(context.workspace());
  const TensorView hidden = context.workspace().Allocate(shape, DType::kF32);
  if (length == 0) return;
  const TensorView diagonals =
      context.workspace().Allocate({config_.num_heads, 2 * length - 1}, DType::kF32);
  DeviceMirror states(context, last_hidden_state);

  Embedding(context, token_embedding_, tokens, hidden);
  int64_t index = 0;
  for (const Layer& layer : layers_) {
    const WeightTurn turn(weights_, kBlocks, index++, context);
    if (!layer.relative_bias.empty()) ExpandBias(context, layer.relative_bias, diagonals);
    Attend(context, layer, BiasOf(diagonals, length), hidden);
    FeedForward(context, layer, hidden);
  }
  RmsNorm(context, hidden, final_norm_.weight, config_.layer_norm_epsilon, states.device());
  states.Download(context);
}

void T5Encoder::ExpandBias(Context& context, ConstTensorView table, TensorView diagonals) const {
  Workspace::Scope scope(context.workspace());
  const Shape flat = {table.NumElements()};  // rows of any number of heads
  const TensorView values = context.workspace().Allocate(flat, DType::kF32);
  Convert(context, table.Reshape(flat), values);
  if (context.IsPlanning()) return;
  const Tensor buckets = CopyToHost(context, values);
  Tensor expanded(diagonals.shape(), DType::kF32);
  const int64_t heads = expanded.dim(0), count = expanded.dim(1);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t bucket =
        RelativePositionBucket(i - count / 2, config_.relative_attention_num_buckets,
                               config_.relative_attention_max_distance);
    for (int64_t head = 0; head < heads; ++head) {
      expanded.host_data<float>()[head * count + i] =
          buckets.host_data<float>()[bucket * heads + head];
    }
  }
  CopyToDevice(context, expanded, diagonals);
}

void T5Encoder::Attend(Context& context, const Layer& layer, ConstTensorView bias,
                       TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t heads = config_.num_heads;
  const Shape inner = {hidden.dim(0), hidden.dim(1), heads * config_.d_kv};
  const DType dtype = context.activation_dtype();
  const TensorView normed = workspace.Allocate(hidden.shape(), dtype);
  const TensorView query = workspace.Allocate(inner, dtype);
  const TensorView key = workspace.Allocate(inner, dtype);
  const TensorView value = workspace.Allocate(inner, dtype);
  const TensorView attended = workspace.Allocate(inner, dtype);

  RmsNorm(context, hidden, layer.attention_norm.weight, config_.layer_norm_epsilon, normed);
  layer.query(context, normed, query);
  layer.key(context, normed, key);
  layer.value(context, normed, value);
  BiasedAttention(context,
                  {.query = SplitHeads(query, heads),
                   .key = SplitHeads(key, heads),
                   .value = SplitHeads(value, heads),
                   .bias = bias,
                   .scale = 1.0f},  // the initialisation of T5 makes up for it
                  SplitHeads(attended, heads));
  layer.out(context, attended, hidden, {.accumulate = true});
}

void T5Encoder::FeedForward(Context& context, const Layer& layer, TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const Shape inner = {hidden.dim(0), hidden.dim(1), config_.d_ff};
  const DType dtype = context.activation_dtype();
  const TensorView normed = workspace.Allocate(hidden.shape(), dtype);
  const TensorView up = workspace.Allocate(inner, dtype);

  RmsNorm(context, hidden, layer.mlp_norm.weight, config_.layer_norm_epsilon, normed);
  if (config_.is_gated_act) {
    const TensorView gate = workspace.Allocate(inner, dtype);
    layer.gate(context, normed, gate, {.activation = config_.dense_act});
    layer.up(context, normed, up);
    Multiply(context, gate, up, up);
  } else {
    layer.up(context, normed, up, {.activation = config_.dense_act});
  }
  layer.down(context, up, hidden, {.accumulate = true});
}

}  // namespace tamias
