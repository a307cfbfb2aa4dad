// HunyuanVideo's token refiner (diffusers' HunyuanVideoTokenRefiner; Kong et al., 2412.03603): a
// small transformer over the text alone, which gives the embeddings of a causal language model a
// look at what follows. Its gates depend on the timestep and on the mean of the text. Symbols: B
// batch, L valid text tokens, E width of the text encoder, H heads, D head dimension, d = H D
// width.
#pragma once

#include <cstdint>
#include <vector>

#include "models/linear_layer.h"
#include "models/transformers/residual_stream.h"
#include "models/transformers/timestep_embedding.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct TokenRefinerShape {
  int64_t text_dim = 0;  // E
  int64_t num_heads = 0;
  int64_t head_dim = 0;
  int64_t num_layers = 0;
  int64_t model_dim() const { return num_heads * head_dim; }
};

class TokenRefiner {
 public:
  // Throws when a tensor is missing or has another shape.
  TokenRefiner(const TokenRefinerShape& shape, const Weights& weights);

  // sinusoids [B, 256]: the timestep's. text [B, L, E], L > 0 -> refined [B, L, d].
  void Forward(Context& context, ConstTensorView sinusoids, ConstTensorView text,
               TensorView refined) const;

 private:
  struct Block {
    NormLayer attention_norm, mlp_norm;
    LinearLayer query, key, value, out;  // [d, d]
    LinearLayer fc1, fc2;                // [4 d, d], [d, 4 d]
    LinearLayer gates;                   // [2 d, d]: of attention, then of the MLP
  };
  // [B, d]: silu of the sum of the time embedding and the embedded mean of the text.
  TensorView EmbedConditioning(Context& context, ConstTensorView sinusoids,
                               ConstTensorView text) const;
  // Each leaves gate [B, d] times branch [B, L, d] to the stream.
  void Attend(Context& context, const Block& block, ConstTensorView gate, ResidualStream& stream,
              TensorView branch) const;
  void FeedForward(Context& context, const Block& block, ConstTensorView gate,
                   ResidualStream& stream, TensorView branch) const;

  TokenRefinerShape shape_;
  TimestepEmbedding timestep_embedder_;
  TimestepEmbedding text_embedder_;
  LinearLayer proj_in_;
  std::vector<Block> blocks_;
};

}  // namespace tamias
