// Prompt to embeddings for HunyuanVideo, as diffusers' HunyuanVideoPipeline: a Llama reads the
// prompt within instructions to describe a video, and its states at the prompt's own tokens, two
// layers before the last, are the sequence; CLIP gives one pooled vector.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "io/tokenizer.h"
#include "models/text/llama_text_encoder.h"
#include "pipeline/clip_prompt_encoder.h"
#include "pipeline/model_folder.h"
#include "pipeline/model_on_devices.h"
#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/weights.h"

namespace tamias {

class HunyuanVideoTextEncoders {
 public:
  explicit HunyuanVideoTextEncoders(const ModelFolder& folder);

  // The sequence has the prompt's tokens and the end of turn, no padding, at most
  // max_sequence_length.
  PromptEmbedding Encode(Context& context, const std::string& prompt,
                         int max_sequence_length) const;

  // True when the prompt is cut at this length.
  bool IsCut(const std::string& prompt, int max_sequence_length) const;

  int64_t sequence_dim() const { return llama_.config().hidden_size; }
  int64_t pooled_dim() const { return clip_.pooled_dim(); }
  const PlacedModel& llama() const { return llama_; }
  const PlacedModel& clip() const { return clip_.encoder(); }

 private:
  ByteLevelTokenizer llama_tokenizer_;
  ModelOnDevices<LlamaTextEncoder> llama_;
  ClipPromptEncoder clip_;
};

}  // namespace tamias
