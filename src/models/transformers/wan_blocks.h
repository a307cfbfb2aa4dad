// The block of Wan 2.1: self-attention over the video tokens, cross-attention to the text (and to a
// picture) and an MLP, the first and the last modulated by the timestep. Works in place on the
// residual stream hidden [B, N, d]; what a block adds last is left to the first norm of the next.
// Symbols as in wan_transformer.h.
#pragma once

#include <cstdint>

#include "models/linear_layer.h"
#include "models/sparse_mlp_layer.h"
#include "models/transformers/head_projections.h"
#include "models/transformers/residual_stream.h"
#include "tamias/context.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct WanBlockShape {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t mlp_dim = 0;
  float epsilon = 1e-6f;        // of every norm
  bool cross_attn_norm = true;  // a layer norm before the cross-attention
  bool attends_image = false;   // image-to-video: cross-attention to a picture, too
  int64_t model_dim() const { return num_heads * head_dim; }
};

// What all blocks of one forward pass share.
struct WanBlockInputs {
  ConstTensorView text;        // [B, L, d], embedded
  ConstTensorView image;       // [B, K, d], embedded; empty without attends_image
  ConstTensorView modulation;  // [B, 6, d]: the timestep's part, to which each block adds its own
  ConstTensorView rotary_cos;  // [N, D]
  ConstTensorView rotary_sin;  // [N, D]
};

// The residual stream on its way through the blocks, in the workspace of who makes it.
class WanResidual {
 public:
  // hidden [B, N, d].
  WanResidual(Context& context, const WanBlockInputs& inputs, TensorView hidden);

  ResidualStream hidden;
  // [B, N, d]: for what is left to the next block, and free while nothing is.
  TensorView branch;
  // [B, 6, d] for a modulation: not that of the block before, whose gates may still be waiting.
  const TensorView& NextVectors() { return vectors_[turn_ ^= 1]; }

 private:
  TensorView vectors_[2];
  int turn_ = 0;
};

// Projections [d, d] each, and the RMS norms of query and key over all heads at once, [d].
struct WanKeyValue {
  LinearLayer key, value;
  ConstTensorView key_norm;
};

struct WanAttention : WanKeyValue {
  LinearLayer query, out;
  ConstTensorView query_norm;

  static WanAttention Load(const Weights& weights, int64_t dim);
};

class WanBlock {
 public:
  WanBlock(const WanBlockShape& shape, const Weights& weights);

  // `layer` is the block's number in the model, as `invocation` counts.
  void Forward(Context& context, const WanBlockInputs& inputs, int layer,
               SparseInvocation& invocation, WanResidual& residual) const;
  // What step caching compares from step to step: the layer-normed, shifted and scaled input of the
  // self-attention. hidden, modulated [B, N, d].
  void ModulateInput(Context& context, const WanBlockInputs& inputs, ConstTensorView hidden,
                     TensorView modulated) const;

  SparseMlpLayer& mlp() { return mlp_; }
  const SparseMlpLayer& mlp() const { return mlp_; }

 private:
  // Each takes its input from `input` [B, N, d] and leaves the attention of all heads, before the
  // output projection, in `attended` [B, N, d].
  void SelfAttend(Context& context, const WanBlockInputs& inputs, int layer,
                  SparseInvocation& invocation, ConstTensorView input, TensorView attended) const;
  // Overwrites `query` [B, N, d]. The sum of the attention to the text and that to the picture.
  void CrossAttend(Context& context, const WanBlockInputs& inputs, ConstTensorView input,
                   TensorView query, TensorView attended) const;
  // To tokens [B, L, d], with a query that is ready.
  void AttendTokens(Context& context, const WanKeyValue& layers, ConstTensorView tokens,
                    TensorView query, TensorView attended) const;

  WanBlockShape shape_;
  ConstTensorView scale_shift_table_;  // [6, d]
  WanAttention self_, cross_;
  WanKeyValue image_;     // of the cross-attention; empty without attends_image
  NormLayer cross_norm_;  // empty without cross_attn_norm
  SparseMlpLayer mlp_;
};

// sum[b] = table + timestep[b]: the modulation that a block (count 6) or the output (count 2)
// learned, moved by the timestep. table [count, d] f32, f16 or bf16; timestep, sum [B, count, d],
// or timestep [B, 1, d]: the same for every row of the table.
void AddModulation(Context& context, ConstTensorView table, ConstTensorView timestep,
                   TensorView sum);

}  // namespace tamias
