// The Wan 2.1 and 2.2 diffusion transformer, text-to-video and image-to-video (diffusers'
// WanTransformer3DModel; Wan team, 2503.20314). Symbols: B batch, L text tokens, K tokens of a
// picture, N video tokens, H heads, D head dimension, d = H D model width, F MLP width, P = C pt ph
// pw numbers of a latent patch, in that order.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "models/linear_layer.h"
#include "models/transformers/patch_projection.h"
#include "models/transformers/timestep_embedding.h"
#include "models/transformers/wan_blocks.h"
#include "models/transformers/wan_image_embedding.h"
#include "tamias/context.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct WanTransformerConfig {
  std::array<int64_t, 3> patch_size = {1, 2, 2};  // frames, height, width, in latent samples
  int64_t num_attention_heads = 40;
  int64_t attention_head_dim = 128;
  int64_t in_channels = 16;
  int64_t out_channels = 16;
  int64_t text_dim = 4096;  // width of the text embedding
  int64_t freq_dim = 256;   // width of the sinusoidal embedding of the timestep
  int64_t ffn_dim = 13824;
  int64_t num_layers = 40;
  bool cross_attn_norm = true;
  float eps = 1e-6f;
  int64_t image_dim = 0;          // width of the picture's embedding; 0: text-to-video
  int64_t pos_embed_seq_len = 0;  // K of models whose picture tokens have learned positions

  bool takes_image() const { return image_dim > 0; }
  int64_t model_dim() const { return attention_head_dim * num_attention_heads; }
  int64_t patch_elements() const { return patch_size[0] * patch_size[1] * patch_size[2]; }
  // The widths of a head's rotary axes: height and width a third each, time the rest.
  std::array<int64_t, 3> RotaryAxes() const;

  static WanTransformerConfig FromJson(const JsonObject& json);
};

struct WanTransformerInputs {
  ConstTensorView hidden_states;          // [B, N, in_channels pt ph pw] f32, in token order
  ConstTensorView encoder_hidden_states;  // [B, L, text_dim] f32; padding is attended to
  // [B, K, image_dim] f32 of a model that takes an image, else empty. K is any number unless
  // pos_embed_seq_len says it: then the tokens of several pictures lie one after another.
  ConstTensorView encoder_hidden_states_image = {};
  float timestep = 0;          // the scheduler's, 0 to 1000
  ConstTensorView rotary_cos;  // [N, D] f32, in token order
  ConstTensorView rotary_sin;  // [N, D] f32
};

class WanTransformer {
 public:
  // Throws when a tensor is missing or has another shape.
  WanTransformer(const WanTransformerConfig& config, const Weights& weights);

  // Prepares what sparse MLP steps read: the second MLP matrix of every block transposed to
  // [F, d], in the type of the activations. Called before a Forward with a sparse MLP.
  void PrepareForSparsity(Context& context);
  // Lets go what that made.
  void DropPrepared();
  // Bytes PrepareForSparsity holds (or would hold).
  size_t SparsityWeightBytes(const Placement& placement) const;
  // As JointTransformer.
  std::vector<std::string> BlockPaths() const;

  // prediction [B, N, out_channels pt ph pw] f32: the velocity, its patches ordered as the input's.
  // Layers are numbered for `invocation` from 0.
  void Forward(Context& context, const WanTransformerInputs& inputs, SparseInvocation& invocation,
               TensorView prediction) const;

  // What this model looks like to the sparsity layer: no text among the keys of its
  // self-attention.
  SparseGeometry Geometry(int64_t batch, const TokenGrid& grid) const;

  const WanTransformerConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  // text [B, L, d] = MLP(encoder_hidden_states).
  void EmbedText(Context& context, ConstTensorView encoder_hidden_states, TensorView text) const;
  // time [B, 1, d], modulation [B, 6, d].
  void EmbedTime(Context& context, float timestep, TensorView time, TensorView modulation) const;
  void ProjectOut(Context& context, ConstTensorView time, ConstTensorView hidden,
                  TensorView prediction) const;
  void CheckInputs(const WanTransformerInputs& inputs, ConstTensorView prediction) const;

  WanTransformerConfig config_;
  Weights weights_;  // keeps the files mapped
  LinearLayer patch_embedding_;
  LinearLayer text_linear_1_, text_linear_2_;
  WanImageEmbedding image_embedder_;  // empty unless the model takes an image
  TimestepEmbedding time_embedder_;
  LinearLayer time_proj_;
  std::vector<WanBlock> blocks_;
  ConstTensorView scale_shift_table_;  // [2, d] of the output: shift, scale
  PatchProjection proj_out_;
};

}  // namespace tamias
