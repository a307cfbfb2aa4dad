// A picture as an image-to-video model takes it. Symbols: K tokens of the vision encoder, C their
// width, N video tokens, P numbers of a token.
#pragma once

#include "tamias/tensor.h"

namespace tamias {

struct ImageCondition {
  Tensor embedding;  // [1, K, C] f32; empty of models that take latents alone
  Tensor latents;    // [1, N, P] f32, packed in row order: what lies beside the noisy latents
};

}  // namespace tamias
