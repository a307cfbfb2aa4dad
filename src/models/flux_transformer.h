// The FLUX.1 diffusion transformer (diffusers' FluxTransformer2DModel): double-stream blocks, where
// text and image have their own weights and meet in joint attention, then single-stream blocks over
// both. Symbols: B batch, L text tokens, N image tokens, S = L + N, H heads, D head dimension,
// d = H D model width, F = 4 d MLP width.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/context.h"
#include "base/tensor.h"
#include "io/checkpoint.h"
#include "models/flux_blocks.h"
#include "models/linear_layer.h"
#include "models/timestep_embedding.h"
#include "sparsity/geometry.h"
#include "sparsity/sparse_invocation.h"

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
  int64_t mlp_dim() const { return 4 * model_dim(); }
  int64_t total_layers() const { return num_layers + num_single_layers; }

  static FluxTransformerConfig FromJson(const JsonObject& json);
};

struct FluxTransformerInputs {
  ConstTensorView hidden_states;          // [B, N, in_channels] f32, in token order
  ConstTensorView encoder_hidden_states;  // [B, L, joint_attention_dim] f32
  ConstTensorView pooled_projections;     // [B, pooled_projection_dim] f32
  float timestep = 0;                     // in [0, 1]: the scheduler's timestep / 1000
  float guidance = 0;                     // the guidance scale; read with guidance_embeds only
  ConstTensorView rotary_cos;             // [L + N, D] f32, text first, image in token order
  ConstTensorView rotary_sin;             // [L + N, D] f32
};

class FluxTransformer {
 public:
  // Throws when a tensor is missing or has another shape.
  FluxTransformer(const FluxTransformerConfig& config, const Weights& weights);

  // Prepares what sparse MLP steps read: the second MLP matrix of every block transposed to fp32
  // [F, d]. Called once, before the first Forward with a sparse MLP.
  void PrepareForSparsity(const Context& context);
  // Bytes PrepareForSparsity holds (or would hold).
  size_t SparsityWeightBytes() const;

  // prediction [B, N, out_channels] f32: the velocity. Layers are numbered for `invocation` from 0:
  // double-stream blocks first, then single-stream ones.
  void Forward(Context& context, const FluxTransformerInputs& inputs, SparseInvocation& invocation,
               TensorView prediction) const;

  // What this model looks like to the sparsity layer.
  SparseGeometry Geometry(int64_t batch, int64_t text_tokens, const TokenGrid& grid) const;

  // The workspace bytes Forward takes for itself at its peak, without the operations' own scratch.
  size_t PlanBytes(int64_t batch, int64_t text_tokens, int64_t image_tokens) const;

  const FluxTransformerConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  // [B, d]: silu of the sum of the time, guidance and pooled text embeddings.
  TensorView EmbedConditioning(Context& context, const FluxTransformerInputs& inputs) const;
  // SparseInvocation::BeginForward with what the first block sees of image [B, N, d].
  bool Begin(Context& context, const FluxBlockInputs& inputs, ConstTensorView image,
             SparseInvocation& invocation) const;
  void ProjectOut(Context& context, const FluxBlockInputs& inputs, ConstTensorView image,
                  TensorView prediction) const;
  void CheckInputs(const FluxTransformerInputs& inputs, ConstTensorView prediction) const;

  FluxTransformerConfig config_;
  Weights weights_;  // keeps the files mapped
  LinearLayer x_embedder_;
  LinearLayer context_embedder_;
  TimestepEmbedding timestep_embedder_;
  TimestepEmbedding guidance_embedder_;  // empty without guidance_embeds
  TimestepEmbedding text_embedder_;
  std::vector<FluxDoubleBlock> double_blocks_;
  std::vector<FluxSingleBlock> single_blocks_;
  LinearLayer norm_out_;
  LinearLayer proj_out_;
};

}  // namespace tamias
