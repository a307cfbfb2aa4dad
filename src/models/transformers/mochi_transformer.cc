// Mochi 1, from latent tokens to the predicted velocity: see the header.
#include "models/transformers/mochi_transformer.h"

#include <cmath>

#include "base/check.h"
#include "base/parallel.h"
#include "io/json.h"
#include "models/attention_heads.h"
#include "models/config_fields.h"
#include "models/transformers/skippable_forward.h"
#include "ops/biased_attention.h"
#include "ops/check_tensor.h"
#include "tamias/device_memory.h"
#include "tamias/ops/activation.h"
#include "tamias/ops/block_mean.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr const char* kBlocks = "transformer_blocks";
constexpr int64_t kPoolerHeads = 8;     // not in the configuration
constexpr double kRotaryArea = 36'864;  // 192 x 192: what height times width is scaled to
constexpr float kNormOutEpsilon = 1e-6f;

}  // namespace

MochiTransformerConfig MochiTransformerConfig::FromJson(const JsonObject& json) {
  constexpr IntRange kSize = {1, 1 << 20};
  MochiTransformerConfig config;
  RequireName(json, "qk_norm", "rms_norm");
  RequireName(json, "activation_fn", "swiglu");
  RefuseNull(json, {"patch_size", "num_attention_heads", "attention_head_dim", "num_layers",
                    "pooled_projection_dim", "in_channels", "text_embed_dim", "time_embed_dim"});
  config.patch_size = json.IntOr("patch_size", config.patch_size, {1, 64});
  config.num_attention_heads =
      json.IntOr("num_attention_heads", config.num_attention_heads, {1, 4096});
  config.attention_head_dim =
      json.IntOr("attention_head_dim", config.attention_head_dim, {2, 4096});
  config.num_layers = json.IntOr("num_layers", config.num_layers, {1, 10'000});
  config.pooled_projection_dim =
      json.IntOr("pooled_projection_dim", config.pooled_projection_dim, kSize);
  config.in_channels = json.IntOr("in_channels", config.in_channels, kSize);
  config.out_channels = json.IntOr("out_channels", config.in_channels, kSize);
  config.text_embed_dim = json.IntOr("text_embed_dim", config.text_embed_dim, kSize);
  config.time_embed_dim = json.IntOr("time_embed_dim", config.time_embed_dim, {2, 1 << 20});
  if (config.attention_head_dim % 2 != 0) {
    json.FailField("attention_head_dim", "expected an even number");
  }
  if (config.time_embed_dim % 2 != 0) json.FailField("time_embed_dim", "expected an even number");
  if (config.text_embed_dim % kPoolerHeads != 0) {
    json.FailField("text_embed_dim", fmt::format("expected a multiple of {}", kPoolerHeads));
  }
  return config;
}

MochiTransformer::MochiTransformer(const MochiTransformerConfig& config, const Weights& weights)
    : config_(config), weights_(weights) {
  const int64_t d = config.model_dim();
  const int64_t p = config.patch_size;
  const int64_t text = config.text_embed_dim;
  const int64_t patch = config.in_channels * config.patch_area();
  patch_embed_.weight =
      weights.Get("patch_embed.proj.weight", {d, config.in_channels, p, p}).Reshape({d, patch});
  patch_embed_.bias = weights.Get("patch_embed.proj.bias", {d});
  const Weights embedders = weights.Sub("time_embed");
  timestep_embedder_ =
      TimestepEmbedding::Load(embedders, "timestep_embedder", config.time_embed_dim, d);
  pooler_query_ = LinearLayer::Load(embedders, "pooler.to_q", text, text);
  pooler_key_value_ = LinearLayer::Load(embedders, "pooler.to_kv", text, 2 * text);
  pooler_out_ = LinearLayer::Load(embedders, "pooler.to_out", text, d);
  caption_projection_ =
      LinearLayer::Load(embedders, "caption_proj", text, config.pooled_projection_dim);
  position_frequencies_ = weights.Get(
      "pos_frequencies", {3, config.num_attention_heads, config.attention_head_dim / 2});
  RefuseMoreLayers(weights, kBlocks, config.num_layers, "num_layers");
  for (int64_t i = 0; i < config.num_layers; ++i) {
    blocks_.emplace_back(MochiBlockShape{.num_heads = config.num_attention_heads,
                                         .head_dim = config.attention_head_dim,
                                         .text_dim = config.pooled_projection_dim,
                                         .updates_text = i + 1 < config.num_layers},
                         weights.Sub(kBlocks, i));
  }
  norm_out_ = LinearLayer::Load(weights, "norm_out.linear", d, 2 * d);
  proj_out_ =
      PatchProjection::Load(weights, "proj_out", d, config.out_channels, config.patch_area());
}

void MochiTransformer::PrepareForSparsity(Context& context) {
  for (MochiBlock& block : blocks_) block.video_mlp().PrepareForSparsity(context);
}

void MochiTransformer::DropPrepared() {
  for (MochiBlock& block : blocks_) block.video_mlp().DropPrepared();
}

size_t MochiTransformer::SparsityWeightBytes(const Placement& placement) const {
  size_t bytes = 0;
  for (const MochiBlock& block : blocks_) bytes += block.video_mlp().PreparedBytes(placement);
  return bytes;
}

RotaryTable MochiTransformer::RotaryPositions(Context& context, const TokenGrid& grid,
                                              std::span<const int32_t> tokens) const {
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  const int64_t heads = config_.num_attention_heads;
  const int64_t pairs = config_.attention_head_dim / 2;
  const Tensor frequencies = HostFrequencies(context);
  const auto fill = [&](TensorView cos_table, TensorView sin_table) {
    const double spacing = std::sqrt(kRotaryArea / static_cast<double>(grid.height * grid.width));
    // The middle of the grid is 0; tokens sit in the middles of their cells.
    const auto centred = [&](int64_t index, int64_t count) {
      return spacing * (static_cast<double>(index) + 0.5 - static_cast<double>(count) / 2);
    };
    constexpr int64_t kTokensPerTask = 64;
    ParallelForRanges(context, num_tokens, kTokensPerTask, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t token = tokens[static_cast<size_t>(i)];
        const auto time = static_cast<double>(token / (grid.height * grid.width));
        const double y = centred(token / grid.width % grid.height, grid.height);
        const double x = centred(token % grid.width, grid.width);
        for (int64_t head = 0; head < heads; ++head) {
          const float* frequency = frequencies.host_data<float>() + head * pairs;
          const int64_t axis = heads * pairs;
          float* cos = cos_table.host_data<float>() + (head * num_tokens + i) * 2 * pairs;
          float* sin = sin_table.host_data<float>() + (head * num_tokens + i) * 2 * pairs;
          for (int64_t pair = 0; pair < pairs; ++pair) {
            const double angle = time * frequency[pair] + y * frequency[axis + pair] +
                                 x * frequency[2 * axis + pair];
            cos[2 * pair] = cos[2 * pair + 1] = static_cast<float>(std::cos(angle));
            sin[2 * pair] = sin[2 * pair + 1] = static_cast<float>(std::sin(angle));
          }
        }
      }
    });
  };
  return MakeRotaryTable(context, {heads, num_tokens, 2 * pairs}, fill);
}

Tensor MochiTransformer::HostFrequencies(Context& context) const {
  Workspace::Scope scope(context.workspace());
  const TensorView frequencies =
      context.workspace().Allocate(position_frequencies_.shape(), DType::kF32);
  Convert(context, position_frequencies_, frequencies);
  return CopyToHost(context, frequencies);
}

std::vector<std::string> MochiTransformer::BlockPaths() const {
  std::vector<std::string> paths;
  for (int64_t i = 1; i < config_.num_layers; ++i) paths.push_back(weights_.PathOf(kBlocks, i));
  return paths;
}

SparseGeometry MochiTransformer::Geometry(int64_t batch, int64_t text_tokens,
                                          const TokenGrid& grid) const {
  SparseGeometry geometry;
  geometry.batch = batch;
  geometry.text_tokens = text_tokens;
  geometry.grid = grid;
  geometry.num_layers = config_.num_layers;
  geometry.num_heads = config_.num_attention_heads;
  geometry.head_dim = config_.attention_head_dim;
  geometry.model_dim = config_.model_dim();
  geometry.mlp_dim = MochiMlpDim(config_.model_dim());
  geometry.gated_mlp = true;
  geometry.prediction_channels = config_.out_channels * config_.patch_area();
  geometry.mlp_tokens.assign(static_cast<size_t>(config_.num_layers), grid.size());
  return geometry;
}

void MochiTransformer::CheckInputs(const MochiTransformerInputs& inputs,
                                   ConstTensorView prediction) const {
  const ConstTensorView& video = inputs.hidden_states;
  CheckTensor("Mochi", "hidden_states", video, DType::kF32,
              {-1, -1, config_.in_channels * config_.patch_area()});
  CheckTensor("Mochi", "encoder_hidden_states", inputs.encoder_hidden_states, DType::kF32,
              {video.dim(0), -1, config_.text_embed_dim});
  const Shape rotary = {config_.num_attention_heads, video.dim(1), config_.attention_head_dim};
  CheckTensor("Mochi", "rotary_cos", inputs.rotary_cos, DType::kF32, rotary);
  CheckTensor("Mochi", "rotary_sin", inputs.rotary_sin, DType::kF32, rotary);
  CheckTensor("Mochi", "prediction", prediction, DType::kF32,
              {video.dim(0), video.dim(1), config_.out_channels * config_.patch_area()});
}

TensorView MochiTransformer::EmbedConditioning(Context& context,
                                               const MochiTransformerInputs& inputs) const {
  const int64_t batch = inputs.hidden_states.dim(0);
  const TensorView conditioning =
      context.workspace().Allocate({batch, config_.model_dim()}, DType::kF32);
  Workspace::Scope scope(context.workspace());
  const TensorView sinusoids =
      context.workspace().Allocate({batch, config_.time_embed_dim}, DType::kF32);
  SinusoidalEmbedding(context, inputs.timestep, sinusoids);
  timestep_embedder_(context, sinusoids, conditioning);
  PoolText(context, inputs.encoder_hidden_states, conditioning);
  Activate(context, Activation::kSilu, conditioning);
  return conditioning;
}

void MochiTransformer::PoolText(Context& context, ConstTensorView text, TensorView pooled) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t batch = text.dim(0);
  const int64_t length = text.dim(1);
  const int64_t width = text.dim(2);
  const TensorView tokens = workspace.Allocate({batch, 1 + length, width}, DType::kF32);
  const TensorView mean = tokens.Slice(1, 0, 1);
  if (length > 0) {
    BlockMean(context, text, length, mean);
    Copy(context, text, tokens.Slice(1, 1, 1 + length));
  } else {
    ScaleShift(context, mean, 0.0f, 0.0f, mean);
  }
  const DType dtype = context.activation_dtype();
  const TensorView query = workspace.Allocate({batch, 1, width}, dtype);
  const TensorView key_value = workspace.Allocate({batch, 1 + length, 2 * width}, dtype);
  const TensorView attended = workspace.Allocate({batch, 1, width}, dtype);
  pooler_query_(context, mean, query);
  pooler_key_value_(context, tokens, key_value);
  // Heads of 512 elements in the published model.
  BiasedAttention(context,
                  {.query = SplitHeads(query, kPoolerHeads),
                   .key = SplitHeads(key_value.Slice(2, 0, width), kPoolerHeads),
                   .value = SplitHeads(key_value.Slice(2, width, 2 * width), kPoolerHeads),
                   .scale = 1.0f / std::sqrt(static_cast<float>(width / kPoolerHeads))},
                  SplitHeads(attended, kPoolerHeads));
  pooler_out_(context, attended.Select(1, 0), pooled, {.accumulate = true});
}

void MochiTransformer::Forward(Context& context, const MochiTransformerInputs& inputs,
                               SparseInvocation& invocation, TensorView prediction) const {
  CheckInputs(inputs, prediction);
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t batch = inputs.hidden_states.dim(0);
  const TensorView video =
      workspace.Allocate({batch, inputs.hidden_states.dim(1), config_.model_dim()}, DType::kF32);
  const ConstTensorView captions = invocation.OwnText(inputs.encoder_hidden_states);
  const TensorView text =
      workspace.Allocate({batch, captions.dim(1), config_.pooled_projection_dim}, DType::kF32);
  const MochiBlockInputs block_inputs = {.silu_conditioning = EmbedConditioning(context, inputs),
                                         .rotary_cos = inputs.rotary_cos,
                                         .rotary_sin = inputs.rotary_sin};

  if (!invocation.IsSkipped()) patch_embed_(context, inputs.hidden_states, video);
  const auto run_blocks = [&] {
    Workspace::Scope blocks_scope(workspace);
    caption_projection_(context, captions, text);
    MochiResidual residual(context, text, video);
    int layer = 0;
    for (const MochiBlock& block : blocks_) {
      const WeightTurn turn(weights_, kBlocks, layer, context);
      block.Forward(context, block_inputs, layer++, invocation, residual);
    }
    residual.video.Summed(context, kMochiNorm);
  };
  SkippableForward(
      context, invocation, video, prediction,
      [&](TensorView modulated) {
        blocks_.front().ModulateVideo(context, block_inputs, video, modulated);
      },
      run_blocks, [&] { ProjectOut(context, block_inputs, video, prediction); });
}

void MochiTransformer::ProjectOut(Context& context, const MochiBlockInputs& inputs,
                                  ConstTensorView video, TensorView prediction) const {
  Workspace::Scope scope(context.workspace());
  const int64_t d = config_.model_dim();
  const TensorView vectors = context.workspace().Allocate({video.dim(0), 2 * d}, DType::kF32);
  norm_out_(context, inputs.silu_conditioning, vectors);  // scale, then shift
  const TensorView normed = context.workspace().Allocate(video.shape(), context.activation_dtype());
  LayerNormModulate(context, video, vectors.Slice(1, d, 2 * d), vectors.Slice(1, 0, d),
                    kNormOutEpsilon, normed);
  proj_out_(context, normed, prediction);
}

}  // namespace tamias
