// The two kinds of block of FLUX.1. Both work in place on the joint residual stream
// hidden [B, S, d], text tokens first (S = L + N), so that neither joining nor splitting the
// streams copies anything. Symbols as in flux_transformer.h.
#pragma once

#include <cstdint>

#include "base/context.h"
#include "base/tensor.h"
#include "io/checkpoint.h"
#include "models/linear_layer.h"
#include "ops/column_sparse_mlp.h"
#include "sparsity/sparse_invocation.h"

namespace tamias {

struct FluxBlockShape {
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t model_dim() const { return num_heads * head_dim; }
  int64_t mlp_dim() const { return 4 * model_dim(); }
};

// What all blocks of one forward pass share.
struct FluxBlockInputs {
  ConstTensorView silu_conditioning;  // [B, d]: silu of the time, guidance and text embedding
  ConstTensorView rotary_cos;         // [S, D]
  ConstTensorView rotary_sin;         // [S, D]
  int64_t text_tokens = 0;            // L
};

// Query, key and value projections with their RMS norms over the head dimension.
struct FluxQkv {
  LinearLayer query, key, value;
  ConstTensorView query_norm, key_norm;  // [D]
};

// Text and image each have their own modulation, projections and MLP; attention is joint.
class FluxDoubleBlock {
 public:
  FluxDoubleBlock(const FluxBlockShape& shape, const Weights& weights);

  // `layer` is the block's number in the model, as `invocation` counts.
  void Forward(Context& context, const FluxBlockInputs& inputs, int layer,
               SparseInvocation& invocation, TensorView hidden) const;
  // The modulated input of the image stream, [B, N, d]: what step caching compares from step to
  // step.
  void ModulatedInput(Context& context, const FluxBlockInputs& inputs, ConstTensorView hidden,
                      TensorView modulated) const;

  void PrepareForSparsity(Context& context);
  int64_t num_parameters() const;

 private:
  struct Stream {
    LinearLayer modulation;  // [6 d, d]: shift, scale, gate of attention; shift, scale, gate of MLP
    FluxQkv qkv;
    LinearLayer out;
    LinearLayer fc1, fc2;
  };
  static Stream LoadText(const FluxBlockShape& shape, const Weights& weights);
  static Stream LoadImage(const FluxBlockShape& shape, const Weights& weights);

  FluxBlockShape shape_;
  Stream text_;
  Stream image_;
  MlpWeights image_mlp_;
  Tensor fc2_transposed_;  // [F, d] f32 once prepared for sparsity
};

// Attention and MLP run side by side on one modulated input of all tokens.
class FluxSingleBlock {
 public:
  FluxSingleBlock(const FluxBlockShape& shape, const Weights& weights);

  void Forward(Context& context, const FluxBlockInputs& inputs, int layer,
               SparseInvocation& invocation, TensorView hidden) const;
  void ModulatedInput(Context& context, const FluxBlockInputs& inputs, ConstTensorView hidden,
                      TensorView modulated) const;

  void PrepareForSparsity(Context& context);
  int64_t num_parameters() const;

 private:
  FluxBlockShape shape_;
  LinearLayer modulation_;  // [3 d, d]: shift, scale, gate
  FluxQkv qkv_;
  LinearLayer proj_mlp_;  // [F, d]
  LinearLayer proj_out_;  // [d, d + F]: columns [0, d) take the attention, the rest the MLP
  ConstTensorView attention_out_;  // [d, d], a column slice of proj_out
  MlpWeights mlp_;                 // its fc2 is the other slice, with the bias of both
  Tensor fc2_transposed_;          // [F, d] f32 once prepared for sparsity
};

}  // namespace tamias
