// Attention for text encoders and the autoencoder, softmax(scale q k^T + bias) v: with an additive
// bias (T5's relative positions) or a causal mask (CLIP, Llama). Scores are formed for a bounded
// number of query rows at a time.
// Shapes: B batch, H heads, Nq queries, Nk keys, D head dimension (any).
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

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

namespace reference {
void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output);
}  // namespace reference
namespace cpu {
void BiasedAttention(Context& context, const BiasedAttentionInputs& inputs, TensorView output);
}  // namespace cpu

// On a GPU of compute capability 8.0 or later: query, key and value f16 or bf16, all alike, bias
// and output each f32, f16 or bf16; D a multiple of 8, rows begin at multiples of 16 bytes. Scores
// are fp32, the softmax weights are rounded to the type of the values. scratch: u8 on the device,
// BiasedAttentionScratchBytes of them (heads: B H; at most 403 MB where heads times keys is below
// 500,000); with less, queries are served in smaller blocks, of 128 at least. Returns once the work
// is enqueued.
namespace cuda {
class Stream;
size_t BiasedAttentionScratchBytes(int64_t heads, int64_t queries, int64_t keys);
void BiasedAttention(Stream& stream, const BiasedAttentionInputs& inputs, TensorView scratch,
                     TensorView output);
}  // namespace cuda

}  // namespace tamias
