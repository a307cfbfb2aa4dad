// What the blocks of FLUX.1 and HunyuanVideo are conditioned on: one vector per sample, the silu of
// the sum of the time, guidance and pooled text embeddings. B batch, d model width.
#pragma once

#include <cstdint>

#include "models/transformers/timestep_embedding.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct ConditioningInputs {
  ConstTensorView sinusoids;  // [B, kSinusoids] f32: SinusoidalEmbedding of the timestep, 0 to 1000
  float guidance = 0;         // the guidance scale; read by models that embed it only
  ConstTensorView pooled;     // [B, pooled_dim] f32
};

class ConditioningEmbedding {
 public:
  static constexpr int64_t kSinusoids = 256;  // width of the sinusoidal embeddings

  // Reads "timestep_embedder", "text_embedder" and, with embeds_guidance, "guidance_embedder".
  ConditioningEmbedding(const Weights& weights, int64_t pooled_dim, int64_t model_dim,
                        bool embeds_guidance);

  // conditioning [B, d] f32.
  void operator()(Context& context, const ConditioningInputs& inputs,
                  TensorView conditioning) const;

 private:
  bool embeds_guidance_;
  TimestepEmbedding timestep_embedder_;
  TimestepEmbedding guidance_embedder_;  // empty without embeds_guidance
  TimestepEmbedding text_embedder_;
};

}  // namespace tamias
