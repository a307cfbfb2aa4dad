// A prompt as a diffusion transformer takes it. Symbols: L text tokens (without padding where the
// model masks it), C sequence width, P pooled width.
#pragma once

#include "tamias/device_memory.h"
#include "tamias/tensor.h"

namespace tamias {

// On the host.
struct PromptEmbedding {
  Tensor sequence;  // [1, L, C] f32
  Tensor pooled;    // [1, P] f32; empty where the family has none
};

// On the device that the transformer runs on.
struct PromptViews {
  ConstTensorView sequence;
  ConstTensorView pooled;
};

// The embedding as the context's device reads it, valid in the caller's workspace scope.
inline PromptViews OnDevice(Context& context, const PromptEmbedding& prompt) {
  PromptViews views;
  views.sequence = OnDevice(context, prompt.sequence);
  if (!prompt.pooled.empty()) views.pooled = OnDevice(context, prompt.pooled);
  return views;
}

}  // namespace tamias
