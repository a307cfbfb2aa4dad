// The block of Wan 2.1: see the header.
#include "models/transformers/wan_blocks.h"

#include <cmath>

#include "models/attention_heads.h"
#include "ops/residual.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"
#include "tamias/ops/rotary.h"

namespace tamias {
namespace {

// The rows of the scale-shift table.
enum ModulationVector { kShift, kScale, kGate, kMlpShift, kMlpScale, kMlpGate, kNumVectors };

float AttentionScale(const WanBlockShape& shape) {
  return 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
}

}  // namespace

void AddModulation(Context& context, ConstTensorView table, ConstTensorView timestep,
                   TensorView sum) {
  for (int64_t item = 0; item < sum.dim(0); ++item) {
    Convert(context, table, sum.Select(0, item));
    for (int64_t row = 0; row < table.dim(0); ++row) {
      const TensorView vector = sum.Select(0, item).Select(0, row);
      Add(context, vector, timestep.Select(0, item).Select(0, timestep.dim(1) > 1 ? row : 0),
          vector);
    }
  }
}

WanAttention WanAttention::Load(const Weights& weights, int64_t dim) {
  WanAttention attention;
  attention.query = LinearLayer::Load(weights, "to_q", dim, dim);
  attention.key = LinearLayer::Load(weights, "to_k", dim, dim);
  attention.value = LinearLayer::Load(weights, "to_v", dim, dim);
  attention.out = LinearLayer::Load(weights, "to_out.0", dim, dim);
  attention.query_norm = NormLayer::Load(weights, "norm_q", dim, false).weight;
  attention.key_norm = NormLayer::Load(weights, "norm_k", dim, false).weight;
  return attention;
}

WanBlock::WanBlock(const WanBlockShape& shape, const Weights& weights) : shape_(shape) {
  const int64_t d = shape.model_dim();
  scale_shift_table_ = weights.Get("scale_shift_table", {1, kNumVectors, d}).Select(0, 0);
  self_ = WanAttention::Load(weights.Sub("attn1"), d);
  cross_ = WanAttention::Load(weights.Sub("attn2"), d);
  if (shape.attends_image) {
    const Weights cross = weights.Sub("attn2");
    image_ = {.key = LinearLayer::Load(cross, "add_k_proj", d, d),
              .value = LinearLayer::Load(cross, "add_v_proj", d, d),
              .key_norm = NormLayer::Load(cross, "norm_added_k", d, false).weight};
  }
  if (shape.cross_attn_norm) cross_norm_ = NormLayer::Load(weights, "norm2", d);
  const LinearLayer fc1 = LinearLayer::Load(weights, "ffn.net.0.proj", d, shape.mlp_dim);
  const LinearLayer fc2 = LinearLayer::Load(weights, "ffn.net.2", shape.mlp_dim, d);
  mlp_ = SparseMlpLayer(fc1, fc2, Activation::kGeluTanh);
}

void WanBlock::ModulateInput(Context& context, const WanBlockInputs& inputs, ConstTensorView hidden,
                             TensorView modulated) const {
  Workspace::Scope scope(context.workspace());
  const TensorView vectors = context.workspace().Allocate(inputs.modulation.shape(), DType::kF32);
  AddModulation(context, scale_shift_table_, inputs.modulation, vectors);
  LayerNormModulate(context, hidden, vectors.Select(1, kShift), vectors.Select(1, kScale),
                    shape_.epsilon, modulated);
}

void WanBlock::Forward(Context& context, const WanBlockInputs& inputs, int layer,
                       SparseInvocation& invocation, TensorView hidden) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const TensorView vectors = workspace.Allocate(inputs.modulation.shape(), DType::kF32);
  AddModulation(context, scale_shift_table_, inputs.modulation, vectors);
  const TensorView normed = workspace.Allocate(hidden.shape(), context.activation_dtype());
  const TensorView branch = workspace.Allocate(hidden.shape(), context.activation_dtype());

  LayerNormModulate(context, hidden, vectors.Select(1, kShift), vectors.Select(1, kScale),
                    shape_.epsilon, normed);
  SelfAttend(context, inputs, layer, invocation, normed, branch);
  self_.out(context, branch, normed);
  GatedResidual(context, hidden, vectors.Select(1, kGate), normed);

  if (shape_.cross_attn_norm) {
    LayerNorm(context, hidden, cross_norm_.weight, cross_norm_.bias, shape_.epsilon, normed);
    CrossAttend(context, inputs, normed, branch, normed);
  } else {
    CrossAttend(context, inputs, hidden, branch, normed);
  }
  cross_.out(context, normed, hidden, {.accumulate = true});

  LayerNormModulate(context, hidden, vectors.Select(1, kMlpShift), vectors.Select(1, kMlpScale),
                    shape_.epsilon, normed);
  mlp_(context, layer, invocation, normed, branch);
  GatedResidual(context, hidden, vectors.Select(1, kMlpGate), branch);
}

void WanBlock::SelfAttend(Context& context, const WanBlockInputs& inputs, int layer,
                          SparseInvocation& invocation, ConstTensorView input,
                          TensorView attended) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  // The tokens of a head side by side, as attention reads them fastest.
  const Shape heads = {input.dim(0), shape_.num_heads, input.dim(1), shape_.head_dim};
  const TensorView query = workspace.Allocate(heads, context.activation_dtype());
  const TensorView key = workspace.Allocate(heads, context.activation_dtype());
  const TensorView value = workspace.Allocate(heads, context.activation_dtype());
  const TensorView& projection = attended;  // scratch until the attention itself
  const TensorView projected = SplitHeads(projection, shape_.num_heads);
  const auto rotate = [&](TensorView output) {
    RmsNormRotary(context, projected, {}, shape_.epsilon, inputs.rotary_cos, inputs.rotary_sin,
                  output);
  };
  self_.query(context, input, projection);
  RmsNorm(context, projection, self_.query_norm, shape_.epsilon, projection);
  rotate(query);
  self_.key(context, input, projection);
  RmsNorm(context, projection, self_.key_norm, shape_.epsilon, projection);
  rotate(key);
  self_.value(context, input, projection);
  RmsNormRotary(context, projected, {}, shape_.epsilon, {}, {}, value);
  invocation.Attention(
      context, layer, {.query = query, .key = key, .value = value, .scale = AttentionScale(shape_)},
      projected);
}

void WanBlock::CrossAttend(Context& context, const WanBlockInputs& inputs, ConstTensorView input,
                           TensorView query, TensorView attended) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  cross_.query(context, input, query);
  RmsNorm(context, query, cross_.query_norm, shape_.epsilon, query);
  AttendTokens(context, cross_, inputs.text, query, attended);
  if (!shape_.attends_image) return;
  const TensorView to_image = workspace.Allocate(attended.shape(), context.activation_dtype());
  AttendTokens(context, image_, inputs.image, query, to_image);
  Add(context, attended, to_image, attended);
}

void WanBlock::AttendTokens(Context& context, const WanKeyValue& layers, ConstTensorView tokens,
                            TensorView query, TensorView attended) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const TensorView key = workspace.Allocate(tokens.shape(), context.activation_dtype());
  const TensorView value = workspace.Allocate(tokens.shape(), context.activation_dtype());
  layers.key(context, tokens, key);
  RmsNorm(context, key, layers.key_norm, shape_.epsilon, key);
  layers.value(context, tokens, value);
  DenseAttention(context,
                 {.query = SplitHeads(query, shape_.num_heads),
                  .key = SplitHeads(key, shape_.num_heads),
                  .value = SplitHeads(value, shape_.num_heads),
                  .scale = AttentionScale(shape_)},
                 SplitHeads(attended, shape_.num_heads));
}

}  // namespace tamias
