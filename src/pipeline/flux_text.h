// Prompt to embeddings for FLUX.1: CLIP gives one pooled vector, T5 a sequence.
#pragma once

#include <string>
#include <vector>

#include "io/tokenizer.h"
#include "models/text/t5_encoder.h"
#include "pipeline/clip_prompt_encoder.h"
#include "pipeline/model_folder.h"
#include "pipeline/model_on_devices.h"
#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/weights.h"

namespace tamias {

class FluxTextEncoders {
 public:
  explicit FluxTextEncoders(const ModelFolder& folder);

  PromptEmbedding Encode(Context& context, const std::string& prompt,
                         int max_sequence_length) const;

  // True when T5 cuts the prompt at this length.
  bool IsCut(const std::string& prompt, int max_sequence_length) const;

  int64_t pooled_dim() const { return clip_.pooled_dim(); }
  int64_t sequence_dim() const { return t5_.config().d_model; }
  const PlacedModel& clip() const { return clip_.encoder(); }
  const PlacedModel& t5() const { return t5_; }

 private:
  ClipPromptEncoder clip_;
  UnigramTokenizer t5_tokenizer_;
  ModelOnDevices<T5Encoder> t5_;
};

}  // namespace tamias
