// The block of Wan 2.1: see the header.
#include "models/transformers/wan_blocks.h"

#include <cmath>

#include "models/attention_heads.h"
#include "tamias/ops/attention.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"

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
  const int64_t rows = table.dim(0), width = table.dim(1);
  const int64_t row_stride = timestep.dim(1) > 1 ? timestep.stride(1) : 0;
  for (int64_t item = 0; item < sum.dim(0); ++item) {
    const TensorView vectors = sum.Select(0, item);
    const ConstTensorView first = timestep.Select(0, item);
    Convert(context, table, vectors);
    Add(context, vectors,
        ConstTensorView(first.raw(), first.dtype(), {rows, width}, {row_stride, 1}, first.device()),
        vectors);
  }
}

WanResidual::WanResidual(Context& context, const WanBlockInputs& inputs, TensorView hidden_in)
    : hidden(hidden_in),
      branch(context.workspace().Allocate(hidden_in.shape(), context.activation_dtype())) {
  for (TensorView& vectors : vectors_) {
    vectors = context.workspace().Allocate(inputs.modulation.shape(), DType::kF32);
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
                       SparseInvocation& invocation, WanResidual& residual) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const TensorView& vectors = residual.NextVectors();
  AddModulation(context, scale_shift_table_, inputs.modulation, vectors);
  const TensorView& branch = residual.branch;
  const TensorView normed = workspace.Allocate(branch.shape(), context.activation_dtype());
  const auto norm = [&](ConstTensorView gain, ConstTensorView offset, bool is_modulation) {
    const ResidualRows rows = residual.hidden.Normed(gain, offset, normed);
    ResidualNorm(context, {&rows, 1}, {.epsilon = shape_.epsilon, .is_modulation = is_modulation});
  };

  norm(vectors.Select(1, kScale), vectors.Select(1, kShift), /*is_modulation=*/true);
  SelfAttend(context, inputs, layer, invocation, normed, branch);
  self_.out(context, branch, normed);
  residual.hidden.Leave(vectors.Select(1, kGate), normed);

  if (shape_.cross_attn_norm) {
    norm(cross_norm_.weight, cross_norm_.bias, /*is_modulation=*/false);
    CrossAttend(context, inputs, normed, branch, normed);
  } else {
    CrossAttend(context, inputs, residual.hidden.Summed(context), branch, normed);
  }
  cross_.out(context, normed, residual.hidden.Summed(context), {.accumulate = true});

  norm(vectors.Select(1, kMlpScale), vectors.Select(1, kMlpShift), /*is_modulation=*/true);
  mlp_(context, layer, invocation, normed, branch);
  residual.hidden.Leave(vectors.Select(1, kMlpGate), branch);
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
  const HeadLayers layers = {.query = self_.query,
                             .key = self_.key,
                             .value = self_.value,
                             .query_norm = self_.query_norm,
                             .key_norm = self_.key_norm,
                             .norms_all_heads = true};
  const HeadStream stream = {.layers = layers, .tokens = input};
  ProjectHeads(context, {&stream, 1}, {.cos = inputs.rotary_cos, .sin = inputs.rotary_sin},
               shape_.epsilon, attended, {.query = query, .key = key, .value = value});
  invocation.Attention(
      context, layer, {.query = query, .key = key, .value = value, .scale = AttentionScale(shape_)},
      SplitHeads(attended, shape_.num_heads));
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
