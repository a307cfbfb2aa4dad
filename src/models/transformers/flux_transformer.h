// The FLUX.1 diffusion transformer (diffusers' FluxTransformer2DModel): embeddings of latents,
// text, timestep and guidance around the blocks of JointTransformer. Symbols as there; F = 4 d.
#pragma once

#include <array>
#include <cstdint>

#include "models/linear_layer.h"
#include "models/transformers/conditioning_embedding.h"
#include "models/transformers/joint_transformer.h"
#include "tamias/context.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct FluxTransformerConfig {
  int64_t in_channels = 64;
  int64_t out_channels = 64;
  int64_t num_layers = 19;         // double-stream blocks
  int64_t num_single_layers = 38;  // single-stream blocks
  int64_t attention_head_dim = 128;
  int64_t num_attention_heads = 24;
  int64_t joint_attention_dim = 4096;   // width of the text sequence embedding
  int64_t pooled_projection_dim = 768;  // width of the pooled text embedding
  bool guidance_embeds = false;         // FLUX.1-dev: the guidance scale is an input
  std::array<int64_t, 3> axes_dims_rope = {16, 56, 56};

  int64_t model_dim() const { return attention_head_dim * num_attention_heads; }
  JointTransformerShape joint_shape() const;

  static FluxTransformerConfig FromJson(const JsonObject& json);
};

struct FluxTransformerInputs {
  ConstTensorView hidden_states;          // [B, N, in_channels] f32, in token order
  ConstTensorView encoder_hidden_states;  // [B, L, joint_attention_dim] f32
  ConstTensorView pooled_projections;     // [B, pooled_projection_dim] f32
  float timestep = 0;                     // in [0, 1]: the scheduler's timestep / 1000
  float guidance = 0;                     // the guidance scale; read with guidance_embeds only
  // [N, D] f32, in token order. Text has the position 0 on every axis, which turns nothing.
  ConstTensorView rotary_cos;
  ConstTensorView rotary_sin;
};

class FluxTransformer {
 public:
  // Throws when a tensor is missing or has another shape.
  FluxTransformer(const FluxTransformerConfig& config, const Weights& weights);

  // As JointTransformer.
  void PrepareForSparsity(Context& context) { joint_.PrepareForSparsity(context); }
  void DropPrepared() { joint_.DropPrepared(); }
  size_t SparsityWeightBytes(const Placement& placement) const {
    return joint_.SparsityWeightBytes(placement);
  }
  std::vector<std::string> BlockPaths() const { return joint_.BlockPaths(); }

  // prediction [B, N, out_channels] f32: the velocity. Weights, inputs and prediction lie on the
  // context's device.
  void Forward(Context& context, const FluxTransformerInputs& inputs, SparseInvocation& invocation,
               TensorView prediction) const;

  // As JointTransformer.
  SparseGeometry Geometry(int64_t batch, int64_t text_tokens, const TokenGrid& grid) const {
    return joint_.Geometry(batch, text_tokens, grid);
  }

  const FluxTransformerConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  TensorView EmbedConditioning(Context& context, const FluxTransformerInputs& inputs) const;
  void CheckInputs(const FluxTransformerInputs& inputs, ConstTensorView prediction) const;

  FluxTransformerConfig config_;
  Weights weights_;  // keeps the files mapped
  LinearLayer x_embedder_;
  LinearLayer context_embedder_;
  ConditioningEmbedding conditioning_embedder_;
  JointTransformer joint_;
};

}  // namespace tamias
