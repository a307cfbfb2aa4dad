// Attention for text encoders and the autoencoder, softmax(scale q k^T + bias) v: with an additive
// bias (T5's relative positions) or a causal mask (CLIP, Llama). Scores are formed for a bounded
// number of query rows at a time.
// Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension (any).
#pragma once

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

struct BiasedAttentionInputs {
  ConstTensorView query;  // [B, H, Nq, D] f32, any strides with last stride 1
  // [B, H, Nk, D] f32, any strides with last stride 1; stride 0 over H for heads that share one.
  ConstTensorView key, value;
  ConstTensorView bias = {};  // [1, Nq, Nk] or [H, Nq, Nk] f32, last stride 1, or empty
  float scale = 1;
  bool causal = false;  // query i sees keys j <= i only; needs Nq == Nk
};

// output [B, H, Nq, D] f32, any strides with last stride 1.
void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output);

// What one call takes from the workspace at most, in bytes, for contiguous heads.
size_t BiasedAttentionWorkspaceBytes(const Context& context, int64_t queries, int64_t keys,
                                     int64_t head_dim);

namespace reference {
void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output);
}  // namespace reference
namespace cpu {
void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output);
}  // namespace cpu

}  // namespace tamias
