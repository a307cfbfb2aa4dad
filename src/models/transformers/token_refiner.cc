// HunyuanVideo's token refiner: see the header.
#include "models/transformers/token_refiner.h"

#include <cmath>

#include "models/attention_heads.h"
#include "models/config_fields.h"
#include "tamias/ops/activation.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/block_mean.h"

namespace tamias {
namespace {

constexpr const char* kBlocks = "token_refiner.refiner_blocks";
constexpr int64_t kTimeChannels = 256;  // width of the sinusoidal embedding
constexpr int64_t kMlpRatio = 4;        // not in the configuration: mlp_ratio is that of the blocks
constexpr float kEpsilon = 1e-6f;

}  // namespace

TokenRefiner::TokenRefiner(const TokenRefinerShape& shape, const Weights& weights) : shape_(shape) {
  const int64_t d = shape.model_dim();
  const Weights embedders = weights.Sub("time_text_embed");
  timestep_embedder_ = TimestepEmbedding::Load(embedders, "timestep_embedder", kTimeChannels, d);
  text_embedder_ = TimestepEmbedding::Load(embedders, "text_embedder", shape.text_dim, d);
  proj_in_ = LinearLayer::Load(weights, "proj_in", shape.text_dim, d);
  RefuseMoreLayers(weights, kBlocks, shape.num_layers, "num_refiner_layers");
  for (int64_t i = 0; i < shape.num_layers; ++i) {
    const Weights block = weights.Sub(kBlocks, i);
    const Weights attention = block.Sub("attn");
    blocks_.push_back({.attention_norm = NormLayer::Load(block, "norm1", d),
                       .mlp_norm = NormLayer::Load(block, "norm2", d),
                       .query = LinearLayer::Load(attention, "to_q", d, d),
                       .key = LinearLayer::Load(attention, "to_k", d, d),
                       .value = LinearLayer::Load(attention, "to_v", d, d),
                       .out = LinearLayer::Load(attention, "to_out.0", d, d),
                       .fc1 = LinearLayer::Load(block, "ff.net.0.proj", d, kMlpRatio * d),
                       .fc2 = LinearLayer::Load(block, "ff.net.2", kMlpRatio * d, d),
                       .gates = LinearLayer::Load(block, "norm_out.linear", d, 2 * d)});
  }
}

TensorView TokenRefiner::EmbedConditioning(Context& context, ConstTensorView sinusoids,
                                           ConstTensorView text) const {
  const int64_t batch = text.dim(0);
  const TensorView conditioning =
      context.workspace().Allocate({batch, shape_.model_dim()}, DType::kF32);
  Workspace::Scope scope(context.workspace());
  const TensorView mean = context.workspace().Allocate({batch, 1, shape_.text_dim}, DType::kF32);
  BlockMean(context, text, text.dim(1), mean);
  timestep_embedder_(context, sinusoids, conditioning);
  text_embedder_(context, mean.Select(1, 0), conditioning, /*accumulate=*/true);
  Activate(context, Activation::kSilu, conditioning);
  return conditioning;
}

void TokenRefiner::Forward(Context& context, ConstTensorView sinusoids, ConstTensorView text,
                           TensorView refined) const {
  Workspace::Scope scope(context.workspace());
  const int64_t d = shape_.model_dim();
  const TensorView conditioning = EmbedConditioning(context, sinusoids, text);
  // Of a block and of the one before, whose last gate may still be waiting.
  const TensorView gates = context.workspace().Allocate({2, text.dim(0), 2 * d}, DType::kF32);
  const TensorView branch =
      context.workspace().Allocate(refined.shape(), context.activation_dtype());
  proj_in_(context, text, refined);
  ResidualStream stream(refined);
  int64_t turn = 0;
  for (const Block& block : blocks_) {
    const TensorView both = gates.Select(0, turn ^= 1);
    block.gates(context, conditioning, both);
    Attend(context, block, both.Slice(1, 0, d), stream, branch);
    FeedForward(context, block, both.Slice(1, d, 2 * d), stream, branch);
  }
  stream.Summed(context);
}

void TokenRefiner::Attend(Context& context, const Block& block, ConstTensorView gate,
                          ResidualStream& stream, TensorView branch) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const TensorView normed = workspace.Allocate(branch.shape(), context.activation_dtype());
  const TensorView query = workspace.Allocate(branch.shape(), context.activation_dtype());
  const TensorView key = workspace.Allocate(branch.shape(), context.activation_dtype());
  const TensorView value = workspace.Allocate(branch.shape(), context.activation_dtype());
  const TensorView attended = workspace.Allocate(branch.shape(), context.activation_dtype());
  const int64_t heads = shape_.num_heads;
  const NormLayer& norm = block.attention_norm;
  const ResidualRows rows = stream.Normed(norm.weight, norm.bias, normed);
  ResidualNorm(context, {&rows, 1}, {.epsilon = kEpsilon});
  block.query(context, normed, query);
  block.key(context, normed, key);
  block.value(context, normed, value);
  DenseAttention(context,
                 {.query = SplitHeads(query, heads),
                  .key = SplitHeads(key, heads),
                  .value = SplitHeads(value, heads),
                  .scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim))},
                 SplitHeads(attended, heads));
  block.out(context, attended, branch);
  stream.Leave(gate, branch);
}

void TokenRefiner::FeedForward(Context& context, const Block& block, ConstTensorView gate,
                               ResidualStream& stream, TensorView branch) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const TensorView normed = workspace.Allocate(branch.shape(), context.activation_dtype());
  const TensorView inner = workspace.Allocate(
      {branch.dim(0), branch.dim(1), kMlpRatio * shape_.model_dim()}, context.activation_dtype());
  const ResidualRows rows = stream.Normed(block.mlp_norm.weight, block.mlp_norm.bias, normed);
  ResidualNorm(context, {&rows, 1}, {.epsilon = kEpsilon});
  block.fc1(context, normed, inner, {.activation = Activation::kSilu});
  block.fc2(context, inner, branch);
  stream.Leave(gate, branch);
}

}  // namespace tamias
