// The block of Mochi 1: see the header.
#include "models/transformers/mochi_blocks.h"

#include <cmath>
#include <vector>

#include "models/attention_heads.h"
#include "tamias/ops/activation.h"
#include "tamias/sparsity/delta_mlp.h"

namespace tamias {
namespace {

constexpr float kHeadsEpsilon = 1e-5f;  // of the norms of query and key

// The modulation of a stream, along axis 1 of [B, 4, width].
enum ModulationVector { kScale, kGate, kMlpScale, kMlpGate };

// [B, 4, width] in `memory`, the gates bounded by tanh. Without an update of the stream only the
// first scale is there, [B, 1, width].
TensorView Modulation(Context& context, const LinearLayer& linear, ConstTensorView conditioning,
                      int64_t count, TensorView memory) {
  const int64_t batch = conditioning.dim(0);
  const int64_t width = linear.weight.dim(0) / count;
  const TensorView vectors(memory.raw(), memory.dtype(), {batch, count * width}, memory.device());
  linear(context, conditioning, vectors);
  const TensorView modulation = vectors.Reshape({batch, count, width});
  if (count > 1) {
    Activate(context, Activation::kTanh, modulation.SplitAxis(1, count / 2, 2).Select(2, 1));
  }
  return modulation;
}

TensorView AllocateVectors(Context& context, ConstTensorView stream) {
  return context.workspace().Allocate({stream.dim(0), 4 * stream.dim(2)}, DType::kF32);
}

}  // namespace

MochiResidual::MochiResidual(Context& context, TensorView text_in, TensorView video_in)
    : text(text_in), video(video_in) {
  Workspace& workspace = context.workspace();
  attended =
      workspace.Allocate({video_in.dim(0), text_in.dim(1) + video_in.dim(1), video_in.dim(2)},
                         context.activation_dtype());
  text_branch = workspace.Allocate(text_in.shape(), context.activation_dtype());
  for (Vectors& vectors : vectors_) {
    vectors = {AllocateVectors(context, text_in), AllocateVectors(context, video_in)};
  }
}

struct MochiBlock::Names {
  const char *modulation, *query, *key, *value, *query_norm, *key_norm, *out, *mlp;
};

MochiBlock::Stream MochiBlock::LoadStream(const MochiBlockShape& shape, const Weights& weights,
                                          const Names& names, int64_t width, bool is_updated) {
  const int64_t d = shape.model_dim();
  const Weights attention = weights.Sub("attn1");
  Stream stream;
  stream.modulation = LinearLayer::Load(weights, names.modulation, d, (is_updated ? 4 : 1) * width);
  stream.qkv.query = LinearLayer::Load(attention, names.query, width, d, false);
  stream.qkv.key = LinearLayer::Load(attention, names.key, width, d, false);
  stream.qkv.value = LinearLayer::Load(attention, names.value, width, d, false);
  stream.qkv.query_norm =
      NormLayer::Load(attention, names.query_norm, shape.head_dim, false).weight;
  stream.qkv.key_norm = NormLayer::Load(attention, names.key_norm, shape.head_dim, false).weight;
  if (!is_updated) return stream;
  stream.out = LinearLayer::Load(attention, names.out, d, width);
  const int64_t inner = MochiMlpDim(width);
  const Weights mlp = weights.Sub(names.mlp);
  stream.mlp.fc1_weight = LinearLayer::Load(mlp, "net.0.proj", width, 2 * inner, false).weight;
  stream.mlp.fc2_weight = LinearLayer::Load(mlp, "net.2", inner, width, false).weight;
  stream.mlp.activation = Activation::kSilu;
  stream.mlp.gated = true;
  stream.mlp.gate_first = false;
  return stream;
}

MochiBlock::MochiBlock(const MochiBlockShape& shape, const Weights& weights) : shape_(shape) {
  video_ = LoadStream(shape, weights,
                      {.modulation = "norm1.linear",
                       .query = "to_q",
                       .key = "to_k",
                       .value = "to_v",
                       .query_norm = "norm_q",
                       .key_norm = "norm_k",
                       .out = "to_out.0",
                       .mlp = "ff"},
                      shape.model_dim(), true);
  video_mlp_ = SparseMlpLayer(video_.mlp);
  text_ = LoadStream(
      shape, weights,
      {.modulation = shape.updates_text ? "norm1_context.linear" : "norm1_context.linear_1",
       .query = "add_q_proj",
       .key = "add_k_proj",
       .value = "add_v_proj",
       .query_norm = "norm_added_q",
       .key_norm = "norm_added_k",
       .out = "to_add_out",
       .mlp = "ff_context"},
      shape.text_dim, shape.updates_text);
}

void MochiBlock::ModulateVideo(Context& context, const MochiBlockInputs& inputs,
                               ConstTensorView video, TensorView modulated) const {
  Workspace::Scope scope(context.workspace());
  const TensorView vectors = Modulation(context, video_.modulation, inputs.silu_conditioning, 4,
                                        AllocateVectors(context, video));
  // The first block's: nothing is left to add.
  const ResidualRows rows = RowsToNorm(video, vectors.Select(1, kScale), {}, modulated);
  ResidualNorm(context, {&rows, 1}, kMochiNorm);
}

void MochiBlock::Forward(Context& context, const MochiBlockInputs& inputs, int layer,
                         SparseInvocation& invocation, MochiResidual& residual) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const TensorView &attended = residual.attended, &text_branch = residual.text_branch;
  const int64_t text_tokens = text_branch.dim(1), tokens = attended.dim(1);
  const MochiResidual::Vectors& memory = residual.NextVectors();
  const TensorView text_vectors = Modulation(context, text_.modulation, inputs.silu_conditioning,
                                             shape_.updates_text ? 4 : 1, memory.text);
  const TensorView video_vectors =
      Modulation(context, video_.modulation, inputs.silu_conditioning, 4, memory.video);
  const TensorView video_branch = attended.Slice(1, text_tokens, tokens);
  const TensorView text_modulated =
      workspace.Allocate(text_branch.shape(), context.activation_dtype());
  const TensorView video_modulated =
      workspace.Allocate(video_branch.shape(), context.activation_dtype());
  const bool updates_text = shape_.updates_text && text_tokens > 0;
  const auto norm = [&](ModulationVector scale, bool has_text) {
    const ResidualRows video =
        residual.video.Normed(video_vectors.Select(1, scale), {}, video_modulated);
    if (!has_text) return ResidualNorm(context, {&video, 1}, kMochiNorm);
    const ResidualRows streams[] = {
        residual.text.Normed(text_vectors.Select(1, scale), {}, text_modulated), video};
    ResidualNorm(context, streams, kMochiNorm);
  };

  norm(kScale, text_tokens > 0);
  ProjectAndAttend(context, inputs, layer, invocation, text_modulated, video_modulated, attended);
  video_.out(context, video_branch, video_modulated);
  residual.video.Leave(video_vectors.Select(1, kGate), video_modulated);
  if (updates_text) {
    text_.out(context, attended.Slice(1, 0, text_tokens), text_modulated);
    residual.text.Leave(text_vectors.Select(1, kGate), text_modulated);
  }

  norm(kMlpScale, updates_text);
  video_mlp_(context, layer, invocation, video_modulated, video_branch);
  residual.video.Leave(video_vectors.Select(1, kMlpGate), video_branch);
  if (!updates_text) return;
  DenseMlp(context, text_.mlp, text_modulated, text_branch);
  residual.text.Leave(text_vectors.Select(1, kMlpGate), text_branch);
}

void MochiBlock::ProjectAndAttend(Context& context, const MochiBlockInputs& inputs, int layer,
                                  SparseInvocation& invocation, ConstTensorView text,
                                  ConstTensorView video, TensorView attended) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t text_tokens = text.dim(1);
  const int64_t tokens = attended.dim(1);
  // The tokens of a head side by side, as attention reads them fastest.
  const Shape heads = {attended.dim(0), shape_.num_heads, tokens, shape_.head_dim};
  const TensorView query = workspace.Allocate(heads, context.activation_dtype());
  const TensorView key = workspace.Allocate(heads, context.activation_dtype());
  const TensorView value = workspace.Allocate(heads, context.activation_dtype());
  std::vector<HeadStream> streams;
  if (text_tokens > 0) streams.push_back({.layers = text_.qkv, .tokens = text});
  streams.push_back({.layers = video_.qkv, .tokens = video, .begin = text_tokens});
  ProjectHeads(context, streams,
               {.cos = inputs.rotary_cos, .sin = inputs.rotary_sin, .first = text_tokens},
               kHeadsEpsilon, attended, {.query = query, .key = key, .value = value});
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  invocation.Attention(context, layer, {.query = query, .key = key, .value = value, .scale = scale},
                       SplitHeads(attended, shape_.num_heads));
}

}  // namespace tamias
