// Embeds the picture of an image-to-video model: see the header.
#include "models/transformers/wan_image_embedding.h"

#include "tamias/ops/activation.h"
#include "tamias/ops/copy.h"
#include "tamias/ops/elementwise.h"
#include "tamias/ops/norm.h"

namespace tamias {
namespace {

constexpr float kEpsilon = 1e-5f;  // of the norms here, whatever the model's own is

}  // namespace

WanImageEmbedding WanImageEmbedding::Load(const Weights& weights, int64_t image_dim,
                                          int64_t model_dim, int64_t positions) {
  WanImageEmbedding embedding;
  embedding.norm1_ = NormLayer::Load(weights, "norm1", image_dim);
  embedding.fc1_ = LinearLayer::Load(weights, "ff.net.0.proj", image_dim, image_dim);
  embedding.fc2_ = LinearLayer::Load(weights, "ff.net.2", image_dim, model_dim);
  embedding.norm2_ = NormLayer::Load(weights, "norm2", model_dim);
  if (positions > 0) {
    embedding.positions_ = weights.Get("pos_embed", {1, positions, image_dim}).Select(0, 0);
  }
  return embedding;
}

void WanImageEmbedding::operator()(Context& context, ConstTensorView tokens,
                                   TensorView image) const {
  Workspace& workspace = context.workspace();
  Workspace::Scope scope(workspace);
  const TensorView inner = workspace.Allocate(tokens.shape(), DType::kF32);
  const TensorView normed = workspace.Allocate(tokens.shape(), DType::kF32);
  Copy(context, tokens, normed);
  if (!positions_.empty()) {
    for (int64_t item = 0; item < tokens.dim(0); ++item) {
      Convert(context, positions_, inner.Select(0, item));
    }
    Add(context, normed, inner, normed);
  }
  LayerNorm(context, normed, norm1_.weight, norm1_.bias, kEpsilon, normed);
  fc1_(context, normed, inner, {.activation = Activation::kGeluErf});
  fc2_(context, inner, image);
  LayerNorm(context, image, norm2_.weight, norm2_.bias, kEpsilon, image);
}

}  // namespace tamias
