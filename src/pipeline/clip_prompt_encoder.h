// Prompt to the pooled embedding of CLIP, which FLUX.1 and HunyuanVideo condition on.
#pragma once

#include <string>

#include "io/tokenizer.h"
#include "models/text/clip_text_encoder.h"
#include "pipeline/model_folder.h"
#include "pipeline/model_on_devices.h"
#include "tamias/context.h"
#include "tamias/weights.h"

namespace tamias {

class ClipPromptEncoder {
 public:
  // Reads the components `tokenizer` and `encoder`.
  ClipPromptEncoder(const ModelFolder& folder, const std::string& tokenizer,
                    const std::string& encoder);

  // [1, P]. What does not fit the encoder's positions is cut.
  Tensor Encode(Context& context, const std::string& prompt) const;

  int64_t pooled_dim() const { return encoder_.config().hidden_size; }  // P
  const PlacedModel& encoder() const { return encoder_; }

 private:
  ClipTokenizer tokenizer_;
  ModelOnDevices<ClipTextEncoder> encoder_;
};

}  // namespace tamias
