// A prompt as a diffusion transformer takes it. Symbols: L text tokens (without padding where the
// model masks it), C sequence width, P pooled width.
#pragma once

#include "base/device_memory.h"
#include "base/tensor.h"

namespace tamias {

struct PromptEmbedding {
  Tensor sequence;  // [1, L, C] f32
  Tensor pooled;    // [1, P] f32; empty where the family has none
};

// A copy on the context's device.
inline PromptEmbedding CopyToDevice(const Context& context, const PromptEmbedding& host) {
  PromptEmbedding device;
  device.sequence = CopyToDevice(context, host.sequence);
  if (!host.pooled.empty()) device.pooled = CopyToDevice(context, host.pooled);
  return device;
}

}  // namespace tamias
