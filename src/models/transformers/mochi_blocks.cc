// The block of Mochi 1: see the header.
#include "models/transformers/mochi_blocks.h"

#include <cmath>

#include "models/attention_heads.h"
#include "ops/residual.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"
#include "tamias/ops/rotary.h"
#include "tamias/sparsity/delta_mlp.h"

namespace tamias {
namespace {

constexpr float kEpsilon = 1e-6f;       // of the norms of the streams
constexpr float kHeadsEpsilon = 1e-5f;  // of the norms of query and key

// The modulation of a stream, along axis 1 of [B, 4, width].
enum ModulationVector { kScale, kGate, kMlpScale, kMlpGate };

// [B, 4, width], valid in the caller's workspace scope: scales as factors, 1 + s, gates bounded by
// tanh. Without an update of the stream only the first scale is there, [B, 1, width].
TensorView Modulation(Context& context, const LinearLayer& linear, ConstTensorView conditioning,
                      int64_t count) {
  const int64_t batch = conditioning.dim(0);
  const int64_t width = linear.weight.dim(0) / count;
  const TensorView vectors = context.workspace().Allocate({batch, count * width}, DType::kF32);
  linear(context, conditioning, vectors);
  const TensorView modulation = vectors.Reshape({batch, count, width});
  for (int64_t i = 0; i < count; ++i) {
    const TensorView vector = modulation.Select(1, i);
    if (i == kScale || i == kMlpScale) {
      ScaleShift(context, vector, 1.0f, 1.0f, vector);
    } else {
      Activate(context, Activation::kTanh, vector);
    }
  }
  return modulation;
}

// output[b, n, :] = RmsNorm(input[b, n, :]) * factor[b, :].
void Modulate(Context& context, ConstTensorView input, ConstTensorView factor, TensorView output) {
  for (int64_t b = 0; b < input.dim(0); ++b) {
    RmsNorm(context, input.Select(0, b), factor.Select(0, b), kEpsilon, output.Select(0, b));
  }
}

// stream += gate * RmsNorm(branch), which overwrites branch.
void AddGated(Context& context, TensorView stream, ConstTensorView gate, TensorView branch) {
  RmsNorm(context, branch, {}, kEpsilon, branch);
  GatedResidual(context, stream, gate, branch);
}

}  // namespace

struct MochiBlock::Names {
  const char *modulation, *query, *key, *value, *query_norm, *key_norm, *out, *mlp;
};

MochiBlock::Stream MochiBlock::LoadStream(const MochiBlockShape& shape, const Weights& weights,
                                          const Names& names, int64_t width, bool is_updated) {
  const int64_t d = shape.model_dim();
  const Weights attention = weights.Sub("attn1");
  Stream stream;
  stream.modulation = LinearLayer::Load(weights, names.modulation, d, (is_updated ? 4 : 1) * width);
  stream.query = LinearLayer::Load(attention, names.query, width, d, false);
  stream.key = LinearLayer::Load(attention, names.key, width, d, false);
  stream.value = LinearLayer::Load(attention, names.value, width, d, false);
  stream.query_norm = NormLayer::Load(attention, names.query_norm, shape.head_dim, false).weight;
  stream.key_norm = NormLayer::Load(attention, names.key_norm, shape.head_dim, false).weight;
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
  const TensorView vectors = Modulation(context, video_.modulation, inputs.silu_conditioning, 4);
  Modulate(context, video, vectors.Select(1, kScale), modulated);
}

void MochiBlock::Forward(Context& context, const MochiBlockInputs& inputs, int layer,
                         SparseInvocation& invocation, TensorView text, TensorView video) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const int64_t text_tokens = text.dim(1);
  const int64_t tokens = text_tokens + video.dim(1);
  const TensorView text_vectors =
      Modulation(context, text_.modulation, inputs.silu_conditioning, shape_.updates_text ? 4 : 1);
  const TensorView video_vectors =
      Modulation(context, video_.modulation, inputs.silu_conditioning, 4);
  const TensorView text_modulated = workspace.Allocate(text.shape(), context.activation_dtype());
  const TensorView video_modulated = workspace.Allocate(video.shape(), context.activation_dtype());
  const TensorView attended =
      workspace.Allocate({video.dim(0), tokens, shape_.model_dim()}, context.activation_dtype());
  const TensorView video_branch = attended.Slice(1, text_tokens, tokens);

  Modulate(context, text, text_vectors.Select(1, kScale), text_modulated);
  Modulate(context, video, video_vectors.Select(1, kScale), video_modulated);
  ProjectAndAttend(context, inputs, layer, invocation, text_modulated, video_modulated, attended);

  video_.out(context, video_branch, video_modulated);
  AddGated(context, video, video_vectors.Select(1, kGate), video_modulated);
  Modulate(context, video, video_vectors.Select(1, kMlpScale), video_modulated);
  video_mlp_(context, layer, invocation, video_modulated, video_branch);
  AddGated(context, video, video_vectors.Select(1, kMlpGate), video_branch);

  if (!shape_.updates_text || text_tokens == 0) return;
  text_.out(context, attended.Slice(1, 0, text_tokens), text_modulated);
  AddGated(context, text, text_vectors.Select(1, kGate), text_modulated);
  Modulate(context, text, text_vectors.Select(1, kMlpScale), text_modulated);
  const TensorView text_branch = workspace.Allocate(text.shape(), context.activation_dtype());
  DenseMlp(context, text_.mlp, text_modulated, text_branch);
  AddGated(context, text, text_vectors.Select(1, kMlpGate), text_branch);
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
  // Projects a stream, the tokens [begin, end) of S, into its place; `attended` is scratch.
  const auto project = [&](const Stream& stream, ConstTensorView input, ConstTensorView cos,
                           ConstTensorView sin, int64_t begin, int64_t end) {
    const TensorView projection = attended.Slice(1, begin, end);
    const TensorView projected = SplitHeads(projection, shape_.num_heads);
    stream.query(context, input, projection);
    RmsNormRotary(context, projected, stream.query_norm, kHeadsEpsilon, cos, sin,
                  query.Slice(2, begin, end));
    stream.key(context, input, projection);
    RmsNormRotary(context, projected, stream.key_norm, kHeadsEpsilon, cos, sin,
                  key.Slice(2, begin, end));
    stream.value(context, input, projection);
    RmsNormRotary(context, projected, {}, kHeadsEpsilon, {}, {}, value.Slice(2, begin, end));
  };
  if (text_tokens > 0) project(text_, text, {}, {}, 0, text_tokens);
  project(video_, video, inputs.rotary_cos, inputs.rotary_sin, text_tokens, tokens);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  invocation.Attention(context, layer, {.query = query, .key = key, .value = value, .scale = scale},
                       SplitHeads(attended, shape_.num_heads));
}

}  // namespace tamias
