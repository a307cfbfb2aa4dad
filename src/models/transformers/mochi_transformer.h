// The Mochi 1 diffusion transformer (diffusers' MochiTransformer3DModel): blocks with a wide video
// stream and a narrow text stream, rotary angles learned per head, and a conditioning vector from
// the timestep and an attention pooling of the text. Symbols: B batch, L valid text tokens, N video
// tokens, H heads, D head dimension, d = H D video width, e text width, p patch side,
// P = in_channels p^2.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/linear_layer.h"
#include "models/transformers/mochi_blocks.h"
#include "models/transformers/patch_projection.h"
#include "models/transformers/rotary_positions.h"
#include "models/transformers/timestep_embedding.h"
#include "tamias/context.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct MochiTransformerConfig {
  int64_t patch_size = 2;  // p: a token is p x p latent pixels of one latent frame
  int64_t num_attention_heads = 24;
  int64_t attention_head_dim = 128;
  int64_t num_layers = 48;
  int64_t pooled_projection_dim = 1536;  // e, the width of the text stream
  int64_t in_channels = 12;
  int64_t out_channels = 12;
  int64_t text_embed_dim = 4096;  // width of the text encoder's sequence
  int64_t time_embed_dim = 256;   // width of the sinusoidal embedding

  int64_t model_dim() const { return attention_head_dim * num_attention_heads; }
  int64_t patch_area() const { return patch_size * patch_size; }

  static MochiTransformerConfig FromJson(const JsonObject& json);
};

struct MochiTransformerInputs {
  ConstTensorView hidden_states;  // [B, N, P] f32, in token order
  // [B, L, text_embed_dim] f32: valid tokens only. diffusers masks padding wherever it could reach
  // the video, so leaving it out is the same. L may be 0: a prompt masked as a whole.
  ConstTensorView encoder_hidden_states;
  float timestep = 0;          // the scheduler's: 0 at pure noise, towards 1000
  ConstTensorView rotary_cos;  // [H, N, D] f32, in token order: RotaryPositions
  ConstTensorView rotary_sin;  // [H, N, D] f32
};

class MochiTransformer {
 public:
  // Throws when a tensor is missing or has another shape.
  MochiTransformer(const MochiTransformerConfig& config, const Weights& weights);

  // Prepares what sparse MLP steps read: the second matrix of every video MLP transposed to
  // [F, d], in the type of the activations. Called before a Forward with a sparse MLP.
  void PrepareForSparsity(Context& context);
  // Lets go what that made.
  void DropPrepared();
  // Bytes PrepareForSparsity holds (or would hold).
  size_t SparsityWeightBytes(const Placement& placement) const;
  // As JointTransformer.
  std::vector<std::string> BlockPaths() const;

  // cos, sin [H, N, D] of the model's learned frequencies, position i being the row-order token
  // tokens[i] of the grid, of all N of the grid or some. Height and width are centred and scaled to
  // an area of 192 x 192. In the context's workspace, valid in the caller's scope.
  RotaryTable RotaryPositions(Context& context, const TokenGrid& grid,
                              std::span<const int32_t> tokens) const;

  // prediction [B, N, P] f32: the velocity, in the patch order of the input.
  void Forward(Context& context, const MochiTransformerInputs& inputs, SparseInvocation& invocation,
               TensorView prediction) const;

  // What this model looks like to the sparsity layer.
  SparseGeometry Geometry(int64_t batch, int64_t text_tokens, const TokenGrid& grid) const;

  const MochiTransformerConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  // The learned frequencies in fp32, on the host.
  Tensor HostFrequencies(Context& context) const;
  // [B, d]: silu of the sum of the time embedding and the pooled text.
  TensorView EmbedConditioning(Context& context, const MochiTransformerInputs& inputs) const;
  // pooled [B, d] += the text tokens as attended to by their mean, which is a key, too.
  void PoolText(Context& context, ConstTensorView text, TensorView pooled) const;
  void ProjectOut(Context& context, const MochiBlockInputs& inputs, ConstTensorView video,
                  TensorView prediction) const;
  void CheckInputs(const MochiTransformerInputs& inputs, ConstTensorView prediction) const;

  MochiTransformerConfig config_;
  Weights weights_;  // keeps the files mapped
  LinearLayer patch_embed_;
  TimestepEmbedding timestep_embedder_;
  LinearLayer pooler_query_, pooler_key_value_, pooler_out_;
  LinearLayer caption_projection_;
  ConstTensorView position_frequencies_;  // [3, H, D / 2]: radians per time, height, width
  std::vector<MochiBlock> blocks_;
  LinearLayer norm_out_;
  PatchProjection proj_out_;
};

}  // namespace tamias
