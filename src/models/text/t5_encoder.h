// The encoder of T5 (transformers' T5EncoderModel; Raffel et al., 1910.10683; v1.1 with gated
// GELU): pre-RMSNorm blocks without biases, attention without scaling but with a learned bias per
// head and bucket of relative distance, shared by all layers (UMT5: one per layer).
#pragma once

#include <cstdint>
#include <vector>

#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/ops/activation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct T5Config {
  int64_t vocab_size = 32128;
  int64_t d_model = 512;
  int64_t d_kv = 64;
  int64_t d_ff = 2048;
  int64_t num_layers = 6;
  int64_t num_heads = 8;
  int64_t relative_attention_num_buckets = 32;
  int64_t relative_attention_max_distance = 128;
  float layer_norm_epsilon = 1e-6f;
  Activation dense_act = Activation::kRelu;
  bool is_gated_act = false;
  bool bias_per_layer = false;  // UMT5

  // file: config.json of the model, or of a larger one that has its configuration within.
  static T5Config FromJson(const JsonObject& file);
};

class T5Encoder {
 public:
  // The token embedding is "shared.weight" or "encoder.embed_tokens.weight".
  T5Encoder(const T5Config& config, const Weights& weights);

  // The weights lie on the context's device, tokens and result in memory of the host.
  // tokens [B, L] i32, padding included (it is attended to, as FluxPipeline passes no mask);
  // last_hidden_state [B, L, d_model].
  void Encode(Context& context, ConstTensorView tokens, TensorView last_hidden_state) const;

  const T5Config& config() const { return config_; }
  // The blocks that may be streamed (Weights::CopyToDevice).
  std::vector<std::string> BlockPaths() const;
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  struct Layer {
    NormLayer attention_norm, mlp_norm;
    LinearLayer query, key, value, out;
    LinearLayer gate, up, down;     // wi_0, wi_1, wo; without gating only up (wi) and down
    ConstTensorView relative_bias;  // [buckets, num_heads]; empty: the first layer's
  };
  // diagonals [H, 2 L - 1] of the bias from the table [buckets, H]: element L - 1 + key - query.
  void ExpandBias(Context& context, ConstTensorView table, TensorView diagonals) const;
  void Attend(Context& context, const Layer& layer, ConstTensorView bias, TensorView hidden) const;
  void FeedForward(Context& context, const Layer& layer, TensorView hidden) const;

  T5Config config_;
  Weights weights_;                  // keeps the files mapped
  ConstTensorView token_embedding_;  // [vocab_size, d_model]
  std::vector<Layer> layers_;
  NormLayer final_norm_;
};

// The bucket of a relative position (key minus query), for attention in both directions: half of
// the buckets for either sign; of those, half count single positions and the rest grow
// logarithmically up to max_distance.
int64_t RelativePositionBucket(int64_t relative_position, int64_t num_buckets,
                               int64_t max_distance);

}  // namespace tamias
