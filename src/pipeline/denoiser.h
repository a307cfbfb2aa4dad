// The transformer within one generation, as the denoising loop calls it.
#pragma once

#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/tensor.h"

namespace tamias {

// Holds what is computed once (rotary tables).
class Denoiser {
 public:
  virtual ~Denoiser() = default;
  // prediction [1, N, P]: the velocity of latents [1, N, P], packed and in token order, at the
  // scheduler's timestep. All tensors lie on the context's device.
  virtual void Predict(Context& context, float timestep, const PromptViews& prompt,
                       ConstTensorView latents, SparseInvocation& invocation,
                       TensorView prediction) const = 0;
};

}  // namespace tamias
