// Blocks of FLUX.1 and HunyuanVideo: see the header.
#include "models/transformers/joint_blocks.h"

#include <cmath>

#include "models/attention_heads.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr float kEpsilon = 1e-6f;  // of every norm

// The modulation of a double-stream block, along axis 1 of [B, 6, d]; a single-stream block has the
// first three.
enum ModulationVector { kShift, kScale, kGate, kMlpShift, kMlpScale, kMlpGate };

// [B, count, d] in the first of `vectors` [B, 6 d].
TensorView Modulation(Context& context, const LinearLayer& linear, ConstTensorView conditioning,
                      int64_t count, TensorView vectors) {
  const int64_t batch = conditioning.dim(0), d = conditioning.dim(1);
  const TensorView used(vectors.raw(), vectors.dtype(), {batch, count * d}, vectors.device());
  linear(context, conditioning, used);
  return used.Reshape({batch, count, d});
}

TensorView AllocateVectors(Context& context, ConstTensorView conditioning) {
  return context.workspace().Allocate({conditioning.dim(0), 6 * conditioning.dim(1)}, DType::kF32);
}

// Rows of a stream with all that is added to it, normed, shifted and scaled.
ResidualRows Modulated(ResidualStream& stream, ConstTensorView vectors, ModulationVector shift,
                       ModulationVector scale, TensorView output) {
  return stream.Normed(vectors.Select(1, scale), vectors.Select(1, shift), output);
}

void Modulate(Context& context, ConstTensorView input, ConstTensorView vectors, TensorView output) {
  LayerNormModulate(context, input, vectors.Select(1, kShift), vectors.Select(1, kScale), kEpsilon,
                    output);
}

constexpr ResidualNormOptions kModulation = {
    .norm = NormKind::kLayer, .epsilon = kEpsilon, .is_modulation = true};

struct Streams {
  TensorView text;   // [B, L, ...]
  TensorView image;  // [B, N, ...]
};

Streams Split(TensorView tokens, int axis, int64_t text_tokens) {
  return {tokens.Slice(axis, 0, text_tokens), tokens.Slice(axis, text_tokens, tokens.dim(axis))};
}

// In the type of the activations, valid in the caller's workspace scope.
TensorView AllocateActivations(Context& context, const Shape& shape) {
  return context.workspace().Allocate(shape, context.activation_dtype());
}

// The query in given memory [B, S, d].
Heads AllocateHeads(Context& context, TensorView query, const JointBlockShape& shape) {
  const Shape heads = {query.dim(0), shape.num_heads, query.dim(1), shape.head_dim};
  return {query.Reshape(heads), AllocateActivations(context, heads),
          AllocateActivations(context, heads)};
}

HeadPositions PositionsOf(const JointBlockInputs& inputs) {
  return {.cos = inputs.rotary_cos, .sin = inputs.rotary_sin, .first = inputs.text_tokens};
}

// Joint attention into output [B, S, d].
void Attend(Context& context, const Heads& heads, int layer, SparseInvocation& invocation,
            TensorView output) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(heads.query.dim(3)));
  invocation.Attention(
      context, layer,
      {.query = heads.query, .key = heads.key, .value = heads.value, .scale = scale},
      SplitHeads(output, heads.query.dim(1)));
}

struct QkvNames {
  const char *query, *key, *value, *query_norm, *key_norm;
};
constexpr QkvNames kImageNames = {"to_q", "to_k", "to_v", "norm_q", "norm_k"};
constexpr QkvNames kTextNames = {"add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q",
                                 "norm_added_k"};

HeadLayers LoadQkv(const JointBlockShape& shape, const Weights& attention, const QkvNames& names) {
  const int64_t d = shape.model_dim();
  return {.query = LinearLayer::Load(attention, names.query, d, d),
          .key = LinearLayer::Load(attention, names.key, d, d),
          .value = LinearLayer::Load(attention, names.value, d, d),
          .query_norm = NormLayer::Load(attention, names.query_norm, shape.head_dim, false).weight,
          .key_norm = NormLayer::Load(attention, names.key_norm, shape.head_dim, false).weight};
}

}  // namespace

JointResidual::JointResidual(Context& context, const JointBlockInputs& inputs, TensorView hidden)
    : text(hidden.Slice(1, 0, inputs.text_tokens)),
      image(hidden.Slice(1, inputs.text_tokens, hidden.dim(1))),
      branch(AllocateActivations(context, hidden.shape())) {
  for (Vectors& vectors : vectors_) {
    vectors = {AllocateVectors(context, inputs.silu_conditioning),
               AllocateVectors(context, inputs.silu_conditioning)};
  }
}

JointDoubleBlock::JointDoubleBlock(const JointBlockShape& shape, const Weights& weights)
    : shape_(shape) {
  const int64_t d = shape.model_dim();
  const int64_t f = shape.mlp_dim;
  const Weights attention = weights.Sub("attn");
  image_ = {.modulation = LinearLayer::Load(weights, "norm1.linear", d, 6 * d),
            .qkv = LoadQkv(shape, attention, kImageNames),
            .out = LinearLayer::Load(attention, "to_out.0", d, d)};
  text_ = {.modulation = LinearLayer::Load(weights, "norm1_context.linear", d, 6 * d),
           .qkv = LoadQkv(shape, attention, kTextNames),
           .out = LinearLayer::Load(attention, "to_add_out", d, d)};
  const LinearLayer fc1 = LinearLayer::Load(weights, "ff.net.0.proj", d, f);
  const LinearLayer fc2 = LinearLayer::Load(weights, "ff.net.2", f, d);
  image_mlp_ = SparseMlpLayer(fc1, fc2, Activation::kGeluTanh);
  text_fc1_ = LinearLayer::Load(weights, "ff_context.net.0.proj", d, f);
  text_fc2_ = LinearLayer::Load(weights, "ff_context.net.2", f, d);
}

void JointDoubleBlock::ModulateImage(Context& context, const JointBlockInputs& inputs,
                                     ConstTensorView image, TensorView modulated) const {
  Workspace::Scope scope(context.workspace());
  const TensorView vectors = Modulation(context, image_.modulation, inputs.silu_conditioning, 6,
                                        AllocateVectors(context, inputs.silu_conditioning));
  Modulate(context, image, vectors, modulated);
}

void JointDoubleBlock::Forward(Context& context, const JointBlockInputs& inputs, int layer,
                               SparseInvocation& invocation, JointResidual& residual) const {
  Workspace::Scope scope(context.workspace());
  const ConstTensorView conditioning = inputs.silu_conditioning;
  const JointResidual::Vectors& memory = residual.NextVectors();
  const TensorView text_vectors =
      Modulation(context, text_.modulation, conditioning, 6, memory.text);
  const TensorView image_vectors =
      Modulation(context, image_.modulation, conditioning, 6, memory.image);
  const TensorView modulated = AllocateActivations(context, residual.branch.shape());
  const Streams input = Split(modulated, 1, inputs.text_tokens);
  const Streams branch = Split(residual.branch, 1, inputs.text_tokens);
  const auto modulate = [&](ModulationVector shift, ModulationVector scale) {
    const ResidualRows streams[] = {
        Modulated(residual.text, text_vectors, shift, scale, input.text),
        Modulated(residual.image, image_vectors, shift, scale, input.image)};
    ResidualNorm(context, streams, kModulation);
  };

  modulate(kShift, kScale);
  ProjectAndAttend(context, inputs, layer, invocation, modulated, residual.branch);
  text_.out(context, branch.text, input.text);
  image_.out(context, branch.image, input.image);
  residual.text.Leave(text_vectors.Select(1, kGate), input.text);
  residual.image.Leave(image_vectors.Select(1, kGate), input.image);

  modulate(kMlpShift, kMlpScale);
  TextMlp(context, input.text, branch.text);
  image_mlp_(context, layer, invocation, input.image, branch.image);
  residual.text.Leave(text_vectors.Select(1, kMlpGate), branch.text);
  residual.image.Leave(image_vectors.Select(1, kMlpGate), branch.image);
}

void JointDoubleBlock::ProjectAndAttend(Context& context, const JointBlockInputs& inputs, int layer,
                                        SparseInvocation& invocation, TensorView modulated,
                                        TensorView attended) const {
  Workspace::Scope scope(context.workspace());
  const TensorView query = AllocateActivations(context, modulated.shape());
  const Heads heads = AllocateHeads(context, query, shape_);
  const auto [text, image] = Split(modulated, 1, inputs.text_tokens);
  const HeadStream streams[] = {
      {.layers = text_.qkv, .tokens = text},
      {.layers = image_.qkv, .tokens = image, .begin = inputs.text_tokens}};
  ProjectHeads(context, streams, PositionsOf(inputs), kEpsilon, attended, heads);
  Attend(context, heads, layer, invocation, attended);
}

void JointDoubleBlock::TextMlp(Context& context, TensorView input, TensorView output) const {
  Workspace::Scope scope(context.workspace());
  const TensorView inner =
      AllocateActivations(context, {input.dim(0), input.dim(1), shape_.mlp_dim});
  text_fc1_(context, input, inner, {.activation = Activation::kGeluTanh});
  text_fc2_(context, inner, output);
}

JointSingleBlock::JointSingleBlock(const JointBlockShape& shape, const Weights& weights)
    : shape_(shape) {
  const int64_t d = shape.model_dim();
  const int64_t f = shape.mlp_dim;
  modulation_ = LinearLayer::Load(weights, "norm.linear", d, 3 * d);
  qkv_ = LoadQkv(shape, weights.Sub("attn"), kImageNames);
  const LinearLayer proj_mlp = LinearLayer::Load(weights, "proj_mlp", d, f);
  const LinearLayer proj_out = LinearLayer::Load(weights, "proj_out", d + f, d);
  attention_out_.weight = proj_out.weight.Slice(1, 0, d);
  mlp_ = SparseMlpLayer(proj_mlp, {proj_out.weight.Slice(1, d, d + f), proj_out.bias},
                        Activation::kGeluTanh);
}

void JointSingleBlock::ModulateImage(Context& context, const JointBlockInputs& inputs,
                                     ConstTensorView image, TensorView modulated) const {
  Workspace::Scope scope(context.workspace());
  const TensorView vectors = Modulation(context, modulation_, inputs.silu_conditioning, 3,
                                        AllocateVectors(context, inputs.silu_conditioning));
  Modulate(context, image, vectors, modulated);
}

void JointSingleBlock::Forward(Context& context, const JointBlockInputs& inputs, int layer,
                               SparseInvocation& invocation, JointResidual& residual) const {
  Workspace::Scope scope(context.workspace());
  const TensorView vectors =
      Modulation(context, modulation_, inputs.silu_conditioning, 3, residual.NextVectors().image);
  const TensorView& branch = residual.branch;
  const TensorView modulated = AllocateActivations(context, branch.shape());
  const TensorView attended = AllocateActivations(context, branch.shape());
  const auto [text_modulated, image_modulated] = Split(modulated, 1, inputs.text_tokens);
  const auto [text_branch, image_branch] = Split(branch, 1, inputs.text_tokens);

  const ResidualRows streams[] = {
      Modulated(residual.text, vectors, kShift, kScale, text_modulated),
      Modulated(residual.image, vectors, kShift, kScale, image_modulated)};
  ResidualNorm(context, streams, kModulation);
  ProjectAndAttend(context, inputs, layer, invocation, modulated, branch, attended);
  mlp_(context, layer, invocation, modulated, branch);
  attention_out_(context, attended, branch, {.accumulate = true});
  residual.text.Leave(vectors.Select(1, kGate), text_branch);
  residual.image.Leave(vectors.Select(1, kGate), image_branch);
}

void JointSingleBlock::ProjectAndAttend(Context& context, const JointBlockInputs& inputs, int layer,
                                        SparseInvocation& invocation, TensorView modulated,
                                        TensorView query, TensorView attended) const {
  Workspace::Scope scope(context.workspace());
  const Heads heads = AllocateHeads(context, query, shape_);
  const HeadStream stream = {.layers = qkv_, .tokens = modulated};
  ProjectHeads(context, {&stream, 1}, PositionsOf(inputs), kEpsilon, attended, heads);
  Attend(context, heads, layer, invocation, attended);
}

}  // namespace tamias
