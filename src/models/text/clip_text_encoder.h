// The CLIP text encoder (transformers' CLIPTextModel; Radford et al., 2103.00020): token and
// learned position embeddings, pre-norm transformer blocks under a causal mask, a final LayerNorm,
// and the state at the end-of-text token as the pooled embedding of the prompt.
#pragma once

#include <cstdint>
#include <vector>

#include "models/clip_encoder_layer.h"
#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class JsonObject;

struct ClipTextConfig : ClipEncoderConfig {
  int64_t vocab_size = 49408;
  int64_t max_position_embeddings = 77;
  int64_t eos_token_id = 49407;

  // file: config.json of a CLIPTextModel or of a whole CLIPModel.
  static ClipTextConfig FromJson(const JsonObject& file);
};

class ClipTextEncoder {
 public:
  // Tensor names with or without the prefix "text_model.".
  ClipTextEncoder(const ClipTextConfig& config, const Weights& weights);

  // The weights lie on the context's device, tokens and results in memory of the host.
  // tokens [B, L] i32, L <= max_position_embeddings, padding included (it is attended to).
  // last_hidden_state [B, L, hidden_size] after the final norm, or empty when not wanted.
  // pooled [B, hidden_size]: the state at the first end-of-text token of each row; with the legacy
  // eos_token_id 2, at the first occurrence of the largest token, as transformers does.
  void Encode(Context& context, ConstTensorView tokens, TensorView last_hidden_state,
              TensorView pooled) const;

  const ClipTextConfig& config() const { return config_; }
  int64_t num_parameters() const { return weights_.TotalParameters(); }

 private:
  void EmbedTokens(Context& context, ConstTensorView tokens, TensorView hidden) const;

  ClipTextConfig config_;
  Weights weights_;                     // keeps the files mapped
  ConstTensorView token_embedding_;     // [vocab_size, hidden_size]
  ConstTensorView position_embedding_;  // [max_position_embeddings, hidden_size]
  std::vector<ClipEncoderLayer> layers_;
  NormLayer final_norm_;
};

}  // namespace tamias
