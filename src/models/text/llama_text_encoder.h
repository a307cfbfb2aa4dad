// The Llama decoder as a text encoder (transformers' LlamaModel; Touvron et al., 2302.13971, and
// Grattafiori et al., 2407.21783): pre-RMSNorm blocks, causal attention in which groups of query
// heads share a key and value head (Ainslie et al., 2305.13245), rotary positions (Su et al.,
// 2104.09864), SwiGLU. HunyuanVideo reads the prompt off the output of the third block from the
// end. Shapes: B batch, L tokens, H query heads, K key heads, D head dimension, d width.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "models/linear_layer.h"
#include "models/transformers/rotary_positions.h"
#include "tamias/context.h"
#include "tamias/ops/activation.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

// Llama 3.1's stretched positions: frequencies whose wavelength exceeds original_length /
// low_frequency_factor fall by `factor`, those below original_length / high_frequency_factor stay,
// and those between are blended.
struct LlamaRotaryScaling {
  double factor;
  double low_frequency_factor;
  double high_frequency_factor;
  double original_length;
};

struct LlamaTextConfig {
  int64_t vocab_size = 32000;
  int64_t hidden_size = 4096;
  int64_t intermediate_size = 11008;
  int64_t num_hidden_layers = 32;
  int64_t num_attention_heads = 32;
  int64_t num_key_value_heads = 32;
  int64_t head_dim = 128;
  Activation hidden_act = Activation::kSilu;
  float rms_norm_eps = 1e-6f;
  double rope_theta = 10000;
  std::optional<LlamaRotaryScaling> rope_scaling;
  bool attention_bias = false;
  bool mlp_bias = false;

  // file: config.json of the model, or of a larger one (Llava) that has its configuration within.
  static LlamaTextConfig FromJson(const JsonObject& file);
};

class LlamaTextEncoder {
 public:
  // Tensor names with or without the prefix "model.", or "language_model.model." or
  // "model.language_model." as Llava has it.
  LlamaTextEncoder(const LlamaTextConfig& config, const Weights& weights);

  // The weights lie on the context's device, tokens and result in memory of the host.
  // tokens [B, L] i32 without padding; hidden_state [B, L, d] contiguous: transformers'
  // hidden_states[-(layers_to_skip + 1)]. That is the output of the last block but
  // `layers_to_skip`, without the final norm, which belongs to layers_to_skip = 0 alone; the
  // embeddings for all. Skipped blocks are not run.
  void Encode(Context& context, ConstTensorView tokens, int64_t layers_to_skip,
              TensorView hidden_state) const;

  // The same for one prompt: [1, L, d].
  Tensor Encode(Context& context, std::span<const int32_t> tokens, int64_t layers_to_skip) const;

  const LlamaTextConfig& config() const { return config_; }
  // The blocks that may be streamed (Weights::CopyToDevice).
  std::vector<std::string> BlockPaths() const;
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  struct Layer {
    NormLayer attention_norm, mlp_norm;
    LinearLayer query, key, value, out;
    LinearLayer gate, up, down;
  };
  RotaryTable Positions(Context& context, int64_t length) const;
  // Projects `normed` [B, L, d] to heads and turns them: [B, heads, L, D].
  void ProjectAndRotate(Context& context, const LinearLayer& projection, ConstTensorView normed,
                        const RotaryTable& positions, TensorView heads) const;
  void Attend(Context& context, const Layer& layer, const RotaryTable& positions,
              TensorView hidden) const;
  void FeedForward(Context& context, const Layer& layer, TensorView hidden) const;

  LlamaTextConfig config_;
  Weights weights_;                  // keeps the files mapped
  ConstTensorView token_embedding_;  // [vocab_size, d]
  std::vector<Layer> layers_;
  NormLayer final_norm_;
};

}  // namespace tamias
