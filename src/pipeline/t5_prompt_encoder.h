// Prompt to embeddings through T5 or UMT5, as the video families use it: diffusers pads the prompt,
// masks the padding in the encoder and hands the mask on. Padding comes last and relative positions
// do not see it, so the valid tokens alone give the same embeddings.
#pragma once

#include <string>
#include <vector>

#include "io/tokenizer.h"
#include "models/text/t5_encoder.h"
#include "pipeline/model_folder.h"
#include "pipeline/model_on_devices.h"
#include "tamias/context.h"
#include "tamias/weights.h"

namespace tamias {

class T5PromptEncoder {
 public:
  // Reads the components "tokenizer" and "text_encoder".
  explicit T5PromptEncoder(const ModelFolder& folder);

  // [1, L, C]: the prompt's tokens and the end token, L <= max_length.
  Tensor Encode(Context& context, const std::string& prompt, int max_length) const;

  // True when the prompt is cut at this length.
  bool IsCut(const std::string& prompt, int max_length) const;

  int64_t sequence_dim() const { return encoder_.config().d_model; }  // C
  const PlacedModel& encoder() const { return encoder_; }

 private:
  UnigramTokenizer tokenizer_;
  ModelOnDevices<T5Encoder> encoder_;
};

}  // namespace tamias
