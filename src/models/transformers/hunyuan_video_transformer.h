// The HunyuanVideo diffusion transformer (diffusers' HunyuanVideoTransformer3DModel; Kong et al.,
// 2412.03603): embeddings of latent patches, refined text, timestep and guidance around the blocks
// of JointTransformer. Symbols as there; N video tokens, L valid text tokens, P = in_channels pt p
// p numbers of a latent patch of pt frames and p x p latent pixels, in that order.
#pragma once

#include <array>
#include <cstdint>

#include "models/linear_layer.h"
#include "models/transformers/conditioning_embedding.h"
#include "models/transformers/joint_transformer.h"
#include "models/transformers/token_refiner.h"
#include "tamias/context.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct HunyuanVideoTransformerConfig {
  int64_t in_channels = 16;
  int64_t out_channels = 16;
  int64_t num_attention_heads = 24;
  int64_t attention_head_dim = 128;
  int64_t num_layers = 20;         // double-stream blocks
  int64_t num_single_layers = 40;  // single-stream blocks
  int64_t num_refiner_layers = 2;
  double mlp_ratio = 4;
  int64_t patch_size = 2;               // p
  int64_t patch_size_t = 1;             // pt
  bool guidance_embeds = true;          // the guidance scale is an input
  int64_t text_embed_dim = 4096;        // width of the text sequence embedding
  int64_t pooled_projection_dim = 768;  // width of the pooled text embedding
  double rope_theta = 256;
  std::array<int64_t, 3> rope_axes_dim = {16, 56, 56};

  int64_t model_dim() const { return attention_head_dim * num_attention_heads; }
  int64_t patch_elements() const { return patch_size_t * patch_size * patch_size; }
  JointTransformerShape joint_shape() const;

  // Throws kUnsupported for image-to-video models (image_condition_type).
  static HunyuanVideoTransformerConfig FromJson(const JsonObject& json);
};

struct HunyuanVideoTransformerInputs {
  ConstTensorView hidden_states;  // [B, N, P] f32, in token order
  // [B, L, text_embed_dim] f32, L > 0: valid tokens only. diffusers masks padding wherever it could
  // reach the video, so leaving it out is the same.
  ConstTensorView encoder_hidden_states;
  ConstTensorView pooled_projections;  // [B, pooled_projection_dim] f32
  float timestep = 0;                  // the scheduler's, 0 to 1000
  float guidance = 0;                  // the guidance scale; read with guidance_embeds only
  ConstTensorView rotary_cos;          // [N, D] f32, in token order
  ConstTensorView rotary_sin;          // [N, D] f32
};

class HunyuanVideoTransformer {
 public:
  // Throws when a tensor is missing or has another shape.
  HunyuanVideoTransformer(const HunyuanVideoTransformerConfig& config, const Weights& weights);

  // As JointTransformer.
  void PrepareForSparsity(Context& context) { joint_.PrepareForSparsity(context); }
  void DropPrepared() { joint_.DropPrepared(); }
  size_t SparsityWeightBytes(const Placement& placement) const {
    return joint_.SparsityWeightBytes(placement);
  }
  std::vector<std::string> BlockPaths() const { return joint_.BlockPaths(); }

  // prediction [B, N, out_channels pt p p] f32: the velocity, its patches ordered as the input's.
  void Forward(Context& context, const HunyuanVideoTransformerInputs& inputs,
               SparseInvocation& invocation, TensorView prediction) const;

  // As JointTransformer.
  SparseGeometry Geometry(int64_t batch, int64_t text_tokens, const TokenGrid& grid) const {
    return joint_.Geometry(batch, text_tokens, grid);
  }

  const HunyuanVideoTransformerConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  void CheckInputs(const HunyuanVideoTransformerInputs& inputs, ConstTensorView prediction) const;

  HunyuanVideoTransformerConfig config_;
  Weights weights_;  // keeps the files mapped
  LinearLayer x_embedder_;
  TokenRefiner context_embedder_;
  ConditioningEmbedding conditioning_embedder_;
  JointTransformer joint_;
};

}  // namespace tamias
