// The body of FLUX.1 and HunyuanVideo: see the header.
#include "models/transformers/joint_transformer.h"

#include "models/config_fields.h"
#include "models/transformers/skippable_forward.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr float kNormOutEpsilon = 1e-6f;
constexpr const char* kDoubleBlocks = "transformer_blocks";
constexpr const char* kSingleBlocks = "single_transformer_blocks";

}  // namespace

JointTransformer::JointTransformer(const JointTransformerShape& shape, const Weights& weights)
    : shape_(shape), weights_(weights) {
  const int64_t d = shape.block.model_dim();
  RefuseMoreLayers(weights, kDoubleBlocks, shape.num_layers, "num_layers");
  RefuseMoreLayers(weights, kSingleBlocks, shape.num_single_layers, "num_single_layers");
  for (int64_t i = 0; i < shape.num_layers; ++i) {
    double_blocks_.emplace_back(shape.block, weights.Sub(kDoubleBlocks, i));
  }
  for (int64_t i = 0; i < shape.num_single_layers; ++i) {
    single_blocks_.emplace_back(shape.block, weights.Sub(kSingleBlocks, i));
  }
  norm_out_ = LinearLayer::Load(weights, "norm_out.linear", d, 2 * d);
  proj_out_ = LinearLayer::Load(weights, "proj_out", d, shape.out_channels);
}

std::vector<std::string> JointTransformer::BlockPaths() const {
  std::vector<std::string> paths;
  for (int64_t i = 0; i < shape_.num_layers; ++i)
    paths.push_back(weights_.PathOf(kDoubleBlocks, i));
  for (int64_t i = 0; i < shape_.num_single_layers; ++i) {
    paths.push_back(weights_.PathOf(kSingleBlocks, i));
  }
  paths.erase(paths.begin());
  return paths;
}

void JointTransformer::PrepareForSparsity(Context& context) {
  for (JointDoubleBlock& block : double_blocks_) {
    block.image_mlp().PrepareForSparsity(context);
  }
  for (JointSingleBlock& block : single_blocks_) {
    block.mlp().PrepareForSparsity(context);
  }
}

void JointTransformer::DropPrepared() {
  for (JointDoubleBlock& block : double_blocks_) block.image_mlp().DropPrepared();
  for (JointSingleBlock& block : single_blocks_) block.mlp().DropPrepared();
}

size_t JointTransformer::SparsityWeightBytes(const Placement& placement) const {
  size_t bytes = 0;
  for (const JointDoubleBlock& block : double_blocks_) {
    bytes += block.image_mlp().PreparedBytes(placement);
  }
  for (const JointSingleBlock& block : single_blocks_) {
    bytes += block.mlp().PreparedBytes(placement);
  }
  return bytes;
}

SparseGeometry JointTransformer::Geometry(int64_t batch, int64_t text_tokens,
                                          const TokenGrid& grid) const {
  SparseGeometry geometry;
  geometry.batch = batch;
  geometry.text_tokens = text_tokens;
  geometry.grid = grid;
  geometry.num_layers = shape_.total_layers();
  geometry.num_heads = shape_.block.num_heads;
  geometry.head_dim = shape_.block.head_dim;
  geometry.model_dim = shape_.block.model_dim();
  geometry.mlp_dim = shape_.block.mlp_dim;
  geometry.prediction_channels = shape_.out_channels;
  // Double-stream blocks hand over the MLP of the image, single-stream ones that of all tokens.
  geometry.mlp_tokens.assign(static_cast<size_t>(shape_.num_layers), grid.size());
  geometry.mlp_tokens.resize(static_cast<size_t>(shape_.total_layers()), text_tokens + grid.size());
  return geometry;
}

void JointTransformer::Forward(Context& context, const JointBlockInputs& inputs,
                               SparseInvocation& invocation, TensorView hidden,
                               TensorView prediction) const {
  const TensorView image = hidden.Slice(1, inputs.text_tokens, hidden.dim(1));
  const auto modulate = [&](TensorView modulated) {
    if (double_blocks_.empty()) {
      single_blocks_.front().ModulateImage(context, inputs, image, modulated);
    } else {
      double_blocks_.front().ModulateImage(context, inputs, image, modulated);
    }
  };
  const auto run_blocks = [&] {
    Workspace::Scope scope(context.workspace());
    JointResidual residual(context, inputs, hidden);
    int layer = 0;
    for (const JointDoubleBlock& block : double_blocks_) {
      const WeightTurn turn(weights_, kDoubleBlocks, layer, context);
      block.Forward(context, inputs, layer++, invocation, residual);
    }
    for (const JointSingleBlock& block : single_blocks_) {
      const WeightTurn turn(weights_, kSingleBlocks, layer - shape_.num_layers, context);
      block.Forward(context, inputs, layer++, invocation, residual);
    }
    residual.image.Summed(context);  // nobody reads the text any more
  };
  SkippableForward(context, invocation, image, prediction, modulate, run_blocks,
                   [&] { ProjectOut(context, inputs, image, prediction); });
}

void JointTransformer::ProjectOut(Context& context, const JointBlockInputs& inputs,
                                  ConstTensorView image, TensorView prediction) const {
  Workspace::Scope scope(context.workspace());
  const int64_t d = shape_.block.model_dim();
  const TensorView vectors = context.workspace().Allocate({image.dim(0), 2 * d}, DType::kF32);
  norm_out_(context, inputs.silu_conditioning, vectors);  // scale, then shift
  const TensorView normed = context.workspace().Allocate(image.shape(), context.activation_dtype());
  LayerNormModulate(context, image, vectors.Slice(1, d, 2 * d), vectors.Slice(1, 0, d),
                    kNormOutEpsilon, normed);
  proj_out_(context, normed, prediction);
}

}  // namespace tamias
