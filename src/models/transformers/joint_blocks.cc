// Blocks of FLUX.1 and HunyuanVideo: see the header.
#include "models/transformers/joint_blocks.h"

#include <algorithm>
#include <cmath>

#include "models/attention_heads.h"
#include "ops/residual.h"
#include "tamias/ops/norm.h"
#include "tamias/ops/rotary.h"

namespace tamias {
namespace {

constexpr float kEpsilon = 1e-6f;  // of every norm

// The modulation of a double-stream block, along axis 1 of [B, 6, d]; a single-stream block has the
// first three.
enum ModulationVector { kShift, kScale, kGate, kMlpShift, kMlpScale, kMlpGate };

// [B, count, d], valid in the caller's workspace scope.
TensorView Modulation(Context& context, const LinearLayer& linear, ConstTensorView conditioning,
                      int64_t count) {
  const int64_t batch = conditioning.dim(0);
  const int64_t d = conditioning.dim(1);
  const TensorView vectors = context.workspace().Allocate({batch, count * d}, DType::kF32);
  linear(context, conditioning, vectors);
  return vectors.Reshape({batch, count, d});
}

void Modulate(Context& context, ConstTensorView input, ConstTensorView modulation,
              ModulationVector shift, ModulationVector scale, TensorView output) {
  LayerNormModulate(context, input, modulation.Select(1, shift), modulation.Select(1, scale),
                    kEpsilon, output);
}

struct Streams {
  TensorView text;   // [B, L, ...]
  TensorView image;  // [B, N, ...]
};

Streams Split(TensorView tokens, int axis, int64_t text_tokens) {
  return {tokens.Slice(axis, 0, text_tokens), tokens.Slice(axis, text_tokens, tokens.dim(axis))};
}

// Query, key and value of all tokens with the tokens of a head side by side, [B, H, S, D], as
// attention reads them fastest.
struct Heads {
  TensorView query, key, value;
};

// In the type of the activations, valid in the caller's workspace scope.
TensorView AllocateActivations(Context& context, const Shape& shape) {
  return context.workspace().Allocate(shape, context.activation_dtype());
}

Heads AllocateHeads(Context& context, int64_t batch, int64_t tokens, const JointBlockShape& shape) {
  const Shape heads = {batch, shape.num_heads, tokens, shape.head_dim};
  return {AllocateActivations(context, heads), AllocateActivations(context, heads),
          AllocateActivations(context, heads)};
}

// The query or key of tokens [begin, begin + n) of S from their projection [B, n, d] into its place
// in heads [B, H, S, D]: normed, and where they are of the image turned by their position.
void PlaceHeads(Context& context, const JointBlockInputs& inputs, ConstTensorView norm,
                TensorView projection, int64_t begin, TensorView heads) {
  const int64_t end = begin + projection.dim(1);
  const int64_t text_end = std::clamp(inputs.text_tokens, begin, end);
  const TensorView projected = SplitHeads(projection, heads.dim(1));
  if (begin < text_end) {
    RmsNormRotary(context, projected.Slice(2, 0, text_end - begin), norm, kEpsilon, {}, {},
                  heads.Slice(2, begin, text_end));
  }
  if (text_end < end) {
    const int64_t first = text_end - inputs.text_tokens;  // of these among the image tokens
    const int64_t last = end - inputs.text_tokens;
    RmsNormRotary(context, projected.Slice(2, text_end - begin, end - begin), norm, kEpsilon,
                  inputs.rotary_cos.Slice(0, first, last), inputs.rotary_sin.Slice(0, first, last),
                  heads.Slice(2, text_end, end));
  }
}

// Projects input [B, n, d], the tokens [begin, begin + n) of S, into their place in `heads`.
// projection [B, n, d] is scratch.
void ProjectHeads(Context& context, const JointQkv& qkv, const JointBlockInputs& inputs,
                  ConstTensorView input, int64_t begin, TensorView projection, const Heads& heads) {
  qkv.query(context, input, projection);
  PlaceHeads(context, inputs, qkv.query_norm, projection, begin, heads.query);
  qkv.key(context, input, projection);
  PlaceHeads(context, inputs, qkv.key_norm, projection, begin, heads.key);
  qkv.value(context, input, projection);
  RmsNormRotary(context, SplitHeads(projection, heads.value.dim(1)), {}, kEpsilon, {}, {},
                heads.value.Slice(2, begin, begin + input.dim(1)));
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

JointQkv LoadQkv(const JointBlockShape& shape, const Weights& attention, const QkvNames& names) {
  const int64_t d = shape.model_dim();
  return {.query = LinearLayer::Load(attention, names.query, d, d),
          .key = LinearLayer::Load(attention, names.key, d, d),
          .value = LinearLayer::Load(attention, names.value, d, d),
          .query_norm = NormLayer::Load(attention, names.query_norm, shape.head_dim, false).weight,
          .key_norm = NormLayer::Load(attention, names.key_norm, shape.head_dim, false).weight};
}

}  // namespace

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
  const TensorView vectors = Modulation(context, image_.modulation, inputs.silu_conditioning, 6);
  Modulate(context, image, vectors, kShift, kScale, modulated);
}

void JointDoubleBlock::Forward(Context& context, const JointBlockInputs& inputs, int layer,
                               SparseInvocation& invocation, TensorView hidden) const {
  Workspace::Scope scope(context.workspace());
  const TensorView text_vectors =
      Modulation(context, text_.modulation, inputs.silu_conditioning, 6);
  const TensorView image_vectors =
      Modulation(context, image_.modulation, inputs.silu_conditioning, 6);
  const TensorView modulated = AllocateActivations(context, hidden.shape());
  const TensorView branch = AllocateActivations(context, hidden.shape());
  const auto [text, image] = Split(hidden, 1, inputs.text_tokens);
  const auto [text_modulated, image_modulated] = Split(modulated, 1, inputs.text_tokens);
  const auto [text_branch, image_branch] = Split(branch, 1, inputs.text_tokens);

  Modulate(context, text, text_vectors, kShift, kScale, text_modulated);
  Modulate(context, image, image_vectors, kShift, kScale, image_modulated);
  ProjectAndAttend(context, inputs, layer, invocation, modulated, branch);
  text_.out(context, text_branch, text_modulated);
  image_.out(context, image_branch, image_modulated);
  GatedResidual(context, text, text_vectors.Select(1, kGate), text_modulated);
  GatedResidual(context, image, image_vectors.Select(1, kGate), image_modulated);

  Modulate(context, text, text_vectors, kMlpShift, kMlpScale, text_modulated);
  Modulate(context, image, image_vectors, kMlpShift, kMlpScale, image_modulated);
  TextMlp(context, text_modulated, text_branch);
  image_mlp_(context, layer, invocation, image_modulated, image_branch);
  GatedResidual(context, text, text_vectors.Select(1, kMlpGate), text_branch);
  GatedResidual(context, image, image_vectors.Select(1, kMlpGate), image_branch);
}

void JointDoubleBlock::ProjectAndAttend(Context& context, const JointBlockInputs& inputs, int layer,
                                        SparseInvocation& invocation, TensorView modulated,
                                        TensorView attended) const {
  Workspace::Scope scope(context.workspace());
  const Heads heads = AllocateHeads(context, modulated.dim(0), modulated.dim(1), shape_);
  const auto [text, image] = Split(modulated, 1, inputs.text_tokens);
  const auto [text_scratch, image_scratch] = Split(attended, 1, inputs.text_tokens);
  ProjectHeads(context, text_.qkv, inputs, text, 0, text_scratch, heads);
  ProjectHeads(context, image_.qkv, inputs, image, inputs.text_tokens, image_scratch, heads);
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
  const TensorView vectors = Modulation(context, modulation_, inputs.silu_conditioning, 3);
  Modulate(context, image, vectors, kShift, kScale, modulated);
}

void JointSingleBlock::Forward(Context& context, const JointBlockInputs& inputs, int layer,
                               SparseInvocation& invocation, TensorView hidden) const {
  Workspace::Scope scope(context.workspace());
  const TensorView vectors = Modulation(context, modulation_, inputs.silu_conditioning, 3);
  const TensorView modulated = AllocateActivations(context, hidden.shape());
  const TensorView attended = AllocateActivations(context, hidden.shape());

  Modulate(context, hidden, vectors, kShift, kScale, modulated);
  ProjectAndAttend(context, inputs, layer, invocation, modulated, attended);
  const TensorView branch = AllocateActivations(context, hidden.shape());  // where query was
  mlp_(context, layer, invocation, modulated, branch);
  attention_out_(context, attended, branch, {.accumulate = true});
  GatedResidual(context, hidden, vectors.Select(1, kGate), branch);
}

void JointSingleBlock::ProjectAndAttend(Context& context, const JointBlockInputs& inputs, int layer,
                                        SparseInvocation& invocation, TensorView modulated,
                                        TensorView attended) const {
  Workspace::Scope scope(context.workspace());
  const Heads heads = AllocateHeads(context, modulated.dim(0), modulated.dim(1), shape_);
  ProjectHeads(context, qkv_, inputs, modulated, 0, attended, heads);
  Attend(context, heads, layer, invocation, attended);
}

}  // namespace tamias
