// Wan 2.1, from latent tokens to the predicted velocity: see the header.
#include "models/transformers/wan_transformer.h"

#include <algorithm>

#include "base/check.h"
#include "io/json.h"
#include "models/config_fields.h"
#include "models/transformers/skippable_forward.h"
#include "ops/check_tensor.h"
#include "tamias/ops/activation.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr const char* kBlocks = "blocks";

// Image-to-video models have all of these fields but the last, which those of one picture lack.
void ReadImageFields(const JsonObject& json, WanTransformerConfig& config) {
  constexpr IntRange kSize = {1, 1 << 20};
  if (json.Has("image_dim") || json.Has("added_kv_proj_dim")) {
    config.image_dim = json.Int("image_dim", kSize);
    const int64_t added = json.Int("added_kv_proj_dim", kSize);
    if (added != config.model_dim()) {
      json.FailField("added_kv_proj_dim", fmt::format("expected the model width of {}, found {}",
                                                      config.model_dim(), added));
    }
  }
  if (!json.Has("pos_embed_seq_len")) return;
  config.pos_embed_seq_len = json.Int("pos_embed_seq_len", kSize);
  if (!config.takes_image()) json.FailField("pos_embed_seq_len", "expected only beside image_dim");
}

}  // namespace

std::array<int64_t, 3> WanTransformerConfig::RotaryAxes() const {
  const int64_t third = 2 * (attention_head_dim / 6);
  return {attention_head_dim - 2 * third, third, third};
}

WanTransformerConfig WanTransformerConfig::FromJson(const JsonObject& json) {
  constexpr IntRange kSize = {1, 1 << 20};
  WanTransformerConfig config;
  RequireName(json, "qk_norm", "rms_norm_across_heads");
  RefuseNull(json, {"patch_size", "num_attention_heads", "attention_head_dim", "in_channels",
                    "text_dim", "freq_dim", "ffn_dim", "num_layers", "cross_attn_norm", "eps"});
  const std::vector<int64_t> patch = json.IntArrayOr("patch_size", {1, 2, 2}, {1, 64});
  if (patch.size() != config.patch_size.size()) {
    json.FailField("patch_size", fmt::format("expected 3 numbers, found {}", patch.size()));
  }
  std::ranges::copy(patch, config.patch_size.begin());
  config.num_attention_heads =
      json.IntOr("num_attention_heads", config.num_attention_heads, {1, 4096});
  config.attention_head_dim =
      json.IntOr("attention_head_dim", config.attention_head_dim, {6, 4096});
  if (config.attention_head_dim % 2 != 0) {
    json.FailField("attention_head_dim",
                   fmt::format("expected an even number, found {}", config.attention_head_dim));
  }
  config.in_channels = json.IntOr("in_channels", config.in_channels, kSize);
  config.out_channels = json.IntOr("out_channels", config.in_channels, kSize);
  config.text_dim = json.IntOr("text_dim", config.text_dim, kSize);
  config.freq_dim = json.IntOr("freq_dim", config.freq_dim, {2, 1 << 16});
  if (config.freq_dim % 2 != 0) {
    json.FailField("freq_dim", fmt::format("expected an even number, found {}", config.freq_dim));
  }
  config.ffn_dim = json.IntOr("ffn_dim", config.ffn_dim, kSize);
  config.num_layers = json.IntOr("num_layers", config.num_layers, {1, 10'000});
  config.cross_attn_norm = json.BoolOr("cross_attn_norm", config.cross_attn_norm);
  config.eps = static_cast<float>(json.FloatOr("eps", config.eps, {0, 1}));
  ReadImageFields(json, config);
  return config;
}

WanTransformer::WanTransformer(const WanTransformerConfig& config, const Weights& weights)
    : config_(config), weights_(weights) {
  const int64_t d = config.model_dim();
  const auto [pt, ph, pw] = config.patch_size;
  patch_embedding_ = {
      .weight = weights.Get("patch_embedding.weight", {d, config.in_channels, pt, ph, pw})
                    .Reshape({d, config.in_channels * config.patch_elements()}),
      .bias = weights.Get("patch_embedding.bias", {d})};
  const Weights embedders = weights.Sub("condition_embedder");
  text_linear_1_ = LinearLayer::Load(embedders, "text_embedder.linear_1", config.text_dim, d);
  text_linear_2_ = LinearLayer::Load(embedders, "text_embedder.linear_2", d, d);
  if (config.takes_image()) {
    image_embedder_ = WanImageEmbedding::Load(embedders.Sub("image_embedder"), config.image_dim, d,
                                              config.pos_embed_seq_len);
  }
  time_embedder_ = TimestepEmbedding::Load(embedders, "time_embedder", config.freq_dim, d);
  time_proj_ = LinearLayer::Load(embedders, "time_proj", d, 6 * d);
  const WanBlockShape shape = {.num_heads = config.num_attention_heads,
                               .head_dim = config.attention_head_dim,
                               .mlp_dim = config.ffn_dim,
                               .epsilon = config.eps,
                               .cross_attn_norm = config.cross_attn_norm,
                               .attends_image = config.takes_image()};
  RefuseMoreLayers(weights, kBlocks, config.num_layers, "num_layers");
  for (int64_t i = 0; i < config.num_layers; ++i) {
    blocks_.emplace_back(shape, weights.Sub(kBlocks, i));
  }
  scale_shift_table_ = weights.Get("scale_shift_table", {1, 2, d}).Select(0, 0);
  proj_out_ =
      PatchProjection::Load(weights, "proj_out", d, config.out_channels, config.patch_elements());
}

void WanTransformer::PrepareForSparsity(Context& context) {
  for (WanBlock& block : blocks_) block.mlp().PrepareForSparsity(context);
}

void WanTransformer::DropPrepared() {
  for (WanBlock& block : blocks_) block.mlp().DropPrepared();
}

size_t WanTransformer::SparsityWeightBytes(const Placement& placement) const {
  size_t bytes = 0;
  for (const WanBlock& block : blocks_) bytes += block.mlp().PreparedBytes(placement);
  return bytes;
}

std::vector<std::string> WanTransformer::BlockPaths() const {
  std::vector<std::string> paths;
  for (int64_t i = 1; i < config_.num_layers; ++i) paths.push_back(weights_.PathOf(kBlocks, i));
  return paths;
}

SparseGeometry WanTransformer::Geometry(int64_t batch, const TokenGrid& grid) const {
  SparseGeometry geometry;
  geometry.batch = batch;
  geometry.grid = grid;
  geometry.num_layers = config_.num_layers;
  geometry.num_heads = config_.num_attention_heads;
  geometry.head_dim = config_.attention_head_dim;
  geometry.model_dim = config_.model_dim();
  geometry.mlp_dim = config_.ffn_dim;
  geometry.prediction_channels = config_.out_channels * config_.patch_elements();
  geometry.mlp_tokens.assign(static_cast<size_t>(config_.num_layers), grid.size());
  return geometry;
}

void WanTransformer::CheckInputs(const WanTransformerInputs& inputs,
                                 ConstTensorView prediction) const {
  const ConstTensorView& video = inputs.hidden_states;
  const int64_t patch = config_.patch_elements();
  CheckTensor("Wan", "hidden_states", video, DType::kF32, {-1, -1, config_.in_channels * patch});
  CheckTensor("Wan", "encoder_hidden_states", inputs.encoder_hidden_states, DType::kF32,
              {video.dim(0), -1, config_.text_dim});
  if (config_.takes_image()) {
    const int64_t tokens = config_.pos_embed_seq_len > 0 ? config_.pos_embed_seq_len : -1;
    CheckTensor("Wan", "encoder_hidden_states_image", inputs.encoder_hidden_states_image,
                DType::kF32, {video.dim(0), tokens, config_.image_dim});
  } else if (!inputs.encoder_hidden_states_image.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "Wan: encoder_hidden_states_image: expected none in a text-to-video model");
  }
  const Shape rotary = {video.dim(1), config_.attention_head_dim};
  CheckTensor("Wan", "rotary_cos", inputs.rotary_cos, DType::kF32, rotary);
  CheckTensor("Wan", "rotary_sin", inputs.rotary_sin, DType::kF32, rotary);
  CheckTensor("Wan", "prediction", prediction, DType::kF32,
              {video.dim(0), video.dim(1), config_.out_channels * patch});
}

void WanTransformer::EmbedText(Context& context, ConstTensorView encoder_hidden_states,
                               TensorView text) const {
  Workspace::Scope scope(context.workspace());
  const TensorView inner = context.workspace().Allocate(text.shape(), context.activation_dtype());
  text_linear_1_(context, encoder_hidden_states, inner, {.activation = Activation::kGeluTanh});
  text_linear_2_(context, inner, text);
}

void WanTransformer::EmbedTime(Context& context, float timestep, TensorView time,
                               TensorView modulation) const {
  Workspace::Scope scope(context.workspace());
  const int64_t batch = time.dim(0);
  const int64_t d = config_.model_dim();
  const TensorView sinusoids = context.workspace().Allocate({batch, config_.freq_dim}, DType::kF32);
  SinusoidalEmbedding(context, timestep, sinusoids);
  const TensorView embedding = time.Reshape({batch, d});
  time_embedder_(context, sinusoids, embedding);
  const TensorView activated = context.workspace().Allocate({batch, d}, DType::kF32);
  Copy(context, embedding, activated);
  Activate(context, Activation::kSilu, activated);
  time_proj_(context, activated, modulation.Reshape({batch, 6 * d}));
}

void WanTransformer::Forward(Context& context, const WanTransformerInputs& inputs,
                             SparseInvocation& invocation, TensorView prediction) const {
  CheckInputs(inputs, prediction);
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t batch = inputs.hidden_states.dim(0);
  const int64_t d = config_.model_dim();
  const TensorView hidden =
      workspace.Allocate({batch, inputs.hidden_states.dim(1), d}, DType::kF32);
  const TensorView text = workspace.Allocate({batch, inputs.encoder_hidden_states.dim(1), d},
                                             context.activation_dtype());
  const TensorView time = workspace.Allocate({batch, 1, d}, DType::kF32);
  const TensorView modulation = workspace.Allocate({batch, 6, d}, DType::kF32);

  EmbedTime(context, inputs.timestep, time, modulation);
  if (!invocation.IsSkipped()) patch_embedding_(context, inputs.hidden_states, hidden);
  WanBlockInputs block_inputs = {.text = text,
                                 .image = {},
                                 .modulation = modulation,
                                 .rotary_cos = inputs.rotary_cos,
                                 .rotary_sin = inputs.rotary_sin};
  const auto run_blocks = [&] {
    Workspace::Scope blocks_scope(workspace);
    EmbedText(context, inputs.encoder_hidden_states, text);
    if (config_.takes_image()) {
      const ConstTensorView& tokens = inputs.encoder_hidden_states_image;
      const TensorView image =
          workspace.Allocate({batch, tokens.dim(1), d}, context.activation_dtype());
      image_embedder_(context, tokens, image);
      block_inputs.image = image;
    }
    WanResidual residual(context, block_inputs, hidden);
    int layer = 0;
    for (const WanBlock& block : blocks_) {
      const WeightTurn turn(weights_, kBlocks, layer, context);
      block.Forward(context, block_inputs, layer++, invocation, residual);
    }
    residual.hidden.Summed(context);
  };
  SkippableForward(
      context, invocation, hidden, prediction,
      [&](TensorView modulated) {
        blocks_.front().ModulateInput(context, block_inputs, hidden, modulated);
      },
      run_blocks, [&] { ProjectOut(context, time, hidden, prediction); });
}

void WanTransformer::ProjectOut(Context& context, ConstTensorView time, ConstTensorView hidden,
                                TensorView prediction) const {
  Workspace::Scope scope(context.workspace());
  const TensorView vectors =
      context.workspace().Allocate({time.dim(0), 2, config_.model_dim()}, DType::kF32);
  AddModulation(context, scale_shift_table_, time, vectors);
  const TensorView normed =
      context.workspace().Allocate(hidden.shape(), context.activation_dtype());
  LayerNormModulate(context, hidden, vectors.Select(1, 0), vectors.Select(1, 1), config_.eps,
                    normed);
  proj_out_(context, normed, prediction);
}

}  // namespace tamias
