// What CLIP's text and vision encoders (Radford et al., 2103.00020) share: the fields of their
// configs, and the pre-norm transformer block. Symbols: B batch, L tokens, d = hidden_size.
#pragma once

#include <cstdint>

#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/ops/activation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct ClipEncoderConfig {
  int64_t hidden_size = 512;
  int64_t intermediate_size = 2048;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 8;
  Activation hidden_act = Activation::kQuickGelu;
  float layer_norm_eps = 1e-5f;

  // Overwrites what the config says; throws kInvalidFile naming the field.
  void Read(const JsonObject& json);
};

class ClipEncoderLayer {
 public:
  ClipEncoderLayer(const ClipEncoderConfig& config, const Weights& weights);

  // hidden [B, L, d], in place; causal: a token sees those before it only.
  void Forward(Context& context, bool causal, TensorView hidden) const;

 private:
  void Attend(Context& context, bool causal, TensorView hidden) const;
  void FeedForward(Context& context, TensorView hidden) const;

  ClipEncoderConfig config_;
  NormLayer norm1_, norm2_;
  LinearLayer query_, key_, value_, out_;
  LinearLayer fc1_, fc2_;
};

}  // namespace tamias
