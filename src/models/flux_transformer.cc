// FLUX.1, from latent tokens to the predicted velocity: see the header.
#include "models/flux_transformer.h"

#include <algorithm>
#include <numeric>

#include "io/json.h"
#include "ops/activation.h"
#include "ops/check_tensor.h"
#include "ops/norm.h"

namespace tamias {
namespace {

constexpr int64_t kTimeChannels = 256;  // width of the sinusoidal embeddings
constexpr float kNormOutEpsilon = 1e-6f;

}  // namespace

FluxTransformerConfig FluxTransformerConfig::FromJson(const JsonObject& json) {
  constexpr IntRange kSize = {1, 1 << 20};
  constexpr IntRange kCount = {0, 10'000};
  FluxTransformerConfig config;
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
  const std::vector<int64_t> axes = json.IntArrayOr("axes_dims_rope", {16, 56, 56}, {2, 4096});
  if (axes.size() != config.axes_dims_rope.size()) {
    json.FailField("axes_dims_rope", fmt::format("expected 3 numbers, found {}", axes.size()));
  }
  std::copy(axes.begin(), axes.end(), config.axes_dims_rope.begin());
  const int64_t width = std::accumulate(axes.begin(), axes.end(), int64_t{0});
  const bool even = std::all_of(axes.begin(), axes.end(), [](int64_t a) { return a % 2 == 0; });
  if (width != config.attention_head_dim || !even) {
    json.FailField("axes_dims_rope",
                   fmt::format("expected even widths whose sum is attention_head_dim = {}",
                               config.attention_head_dim));
  }
  if (config.total_layers() == 0) json.FailField("num_layers", "the model has no blocks");
  return config;
}

FluxTransformer::FluxTransformer(const FluxTransformerConfig& config, const Weights& weights)
    : config_(config), weights_(weights) {
  const int64_t d = config.model_dim();
  x_embedder_ = LinearLayer::Load(weights, "x_embedder", config.in_channels, d);
  context_embedder_ = LinearLayer::Load(weights, "context_embedder", config.joint_attention_dim, d);
  const Weights embedders = weights.Sub("time_text_embed");
  timestep_embedder_ = TimestepEmbedding::Load(embedders, "timestep_embedder", kTimeChannels, d);
  if (config.guidance_embeds) {
    guidance_embedder_ = TimestepEmbedding::Load(embedders, "guidance_embedder", kTimeChannels, d);
  }
  text_embedder_ =
      TimestepEmbedding::Load(embedders, "text_embedder", config.pooled_projection_dim, d);
  const FluxBlockShape shape = {config.num_attention_heads, config.attention_head_dim};
  for (int64_t i = 0; i < config.num_layers; ++i) {
    double_blocks_.emplace_back(shape, weights.Sub("transformer_blocks", i));
  }
  for (int64_t i = 0; i < config.num_single_layers; ++i) {
    single_blocks_.emplace_back(shape, weights.Sub("single_transformer_blocks", i));
  }
  norm_out_ = LinearLayer::Load(weights, "norm_out.linear", d, 2 * d);
  proj_out_ = LinearLayer::Load(weights, "proj_out", d, config.out_channels);
}

void FluxTransformer::PrepareForSparsity(const Context& context) {
  for (FluxDoubleBlock& block : double_blocks_) block.PrepareForSparsity(context);
  for (FluxSingleBlock& block : single_blocks_) block.PrepareForSparsity(context);
}

size_t FluxTransformer::SparsityWeightBytes() const {
  return static_cast<size_t>(config_.total_layers() * config_.mlp_dim() * config_.model_dim()) *
         sizeof(float);
}

SparseGeometry FluxTransformer::Geometry(int64_t batch, int64_t text_tokens,
                                         const TokenGrid& grid) const {
  SparseGeometry geometry;
  geometry.batch = batch;
  geometry.text_tokens = text_tokens;
  geometry.grid = grid;
  geometry.num_layers = config_.total_layers();
  geometry.num_heads = config_.num_attention_heads;
  geometry.head_dim = config_.attention_head_dim;
  geometry.model_dim = config_.model_dim();
  geometry.mlp_dim = config_.mlp_dim();
  geometry.prediction_channels = config_.out_channels;
  // Double-stream blocks hand over the MLP of the image, single-stream ones that of all tokens.
  geometry.mlp_tokens.assign(static_cast<size_t>(config_.num_layers), grid.size());
  geometry.mlp_tokens.resize(static_cast<size_t>(config_.total_layers()),
                             text_tokens + grid.size());
  return geometry;
}

size_t FluxTransformer::PlanBytes(int64_t batch, int64_t text_tokens, int64_t image_tokens) const {
  const int64_t d = config_.model_dim();
  // The residual stream, a block's modulated input and attention output, and query, key and value.
  const int64_t streams = 6 * batch * (text_tokens + image_tokens) * d;
  const int64_t vectors = batch * d * (config_.num_layers > 0 ? 1 + 2 * 6 : 1 + 3);
  return static_cast<size_t>(streams + vectors) * sizeof(float);
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
  const Shape rotary = {text.dim(1) + image.dim(1), config_.attention_head_dim};
  CheckTensor("FLUX", "rotary_cos", inputs.rotary_cos, DType::kF32, rotary);
  CheckTensor("FLUX", "rotary_sin", inputs.rotary_sin, DType::kF32, rotary);
  CheckTensor("FLUX", "prediction", prediction, DType::kF32,
              {batch, image.dim(1), config_.out_channels});
}

TensorView FluxTransformer::EmbedConditioning(Context& context,
                                              const FluxTransformerInputs& inputs) const {
  const int64_t batch = inputs.pooled_projections.dim(0);
  const TensorView conditioning = context.workspace().Allocate({batch, config_.model_dim()});
  Workspace::Scope scope(context.workspace());
  const TensorView sinusoids = context.workspace().Allocate({batch, kTimeChannels});
  SinusoidalEmbedding(1000.0f * inputs.timestep, sinusoids);
  timestep_embedder_(context, sinusoids, conditioning);
  if (config_.guidance_embeds) {
    SinusoidalEmbedding(1000.0f * inputs.guidance, sinusoids);
    guidance_embedder_(context, sinusoids, conditioning, /*accumulate=*/true);
  }
  text_embedder_(context, inputs.pooled_projections, conditioning, /*accumulate=*/true);
  Activate(context, Activation::kSilu, conditioning);
  return conditioning;
}

void FluxTransformer::Forward(Context& context, const FluxTransformerInputs& inputs,
                              SparseInvocation& invocation, TensorView prediction) const {
  CheckInputs(inputs, prediction);
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t batch = inputs.hidden_states.dim(0);
  const int64_t text_tokens = inputs.encoder_hidden_states.dim(1);
  const int64_t tokens = text_tokens + inputs.hidden_states.dim(1);
  const TensorView hidden = workspace.Allocate({batch, tokens, config_.model_dim()});
  const TensorView image = hidden.Slice(1, text_tokens, tokens);
  const FluxBlockInputs block_inputs = {.silu_conditioning = EmbedConditioning(context, inputs),
                                        .rotary_cos = inputs.rotary_cos,
                                        .rotary_sin = inputs.rotary_sin,
                                        .text_tokens = text_tokens};

  context_embedder_(context, inputs.encoder_hidden_states, hidden.Slice(1, 0, text_tokens));
  x_embedder_(context, inputs.hidden_states, image);
  if (!Begin(context, block_inputs, image, invocation)) {
    invocation.CachedPrediction(context, prediction);
    return;
  }
  int layer = 0;
  for (const FluxDoubleBlock& block : double_blocks_) {
    block.Forward(context, block_inputs, layer++, invocation, hidden);
  }
  for (const FluxSingleBlock& block : single_blocks_) {
    block.Forward(context, block_inputs, layer++, invocation, hidden);
  }
  ProjectOut(context, block_inputs, image, prediction);
  invocation.StorePrediction(context, prediction);
}

bool FluxTransformer::Begin(Context& context, const FluxBlockInputs& inputs, ConstTensorView image,
                            SparseInvocation& invocation) const {
  Workspace::Scope scope(context.workspace());
  const TensorView modulated = context.workspace().Allocate(image.shape());
  if (double_blocks_.empty()) {
    single_blocks_.front().ModulateImage(context, inputs, image, modulated);
  } else {
    double_blocks_.front().ModulateImage(context, inputs, image, modulated);
  }
  return invocation.BeginForward(context, modulated);
}

void FluxTransformer::ProjectOut(Context& context, const FluxBlockInputs& inputs,
                                 ConstTensorView image, TensorView prediction) const {
  Workspace::Scope scope(context.workspace());
  const int64_t d = config_.model_dim();
  const TensorView vectors = context.workspace().Allocate({image.dim(0), 2 * d});
  norm_out_(context, inputs.silu_conditioning, vectors);  // scale, then shift
  const TensorView normed = context.workspace().Allocate(image.shape());
  LayerNormModulate(context, image, vectors.Slice(1, d, 2 * d), vectors.Slice(1, 0, d),
                    kNormOutEpsilon, normed);
  proj_out_(context, normed, prediction);
}

}  // namespace tamias
