// The transformer within one generation, as the denoising loop calls it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "pipeline/prompt_embedding.h"
#include "tamias/context.h"
#include "tamias/sparsity/geometry.h"
#include "tamias/sparsity/sparse_invocation.h"
#include "tamias/sparsity/token_order.h"
#include "tamias/tensor.h"

namespace tamias {

// Image tokens in their order: all, or those of one of the GPUs that compute a call together.
struct DenoiserTokens {
  const TokenOrder& order;
  TokenRange range;
  // Their row-order numbers.
  std::span<const int32_t> list() const {
    return order.tokens().subspan(static_cast<size_t>(range.begin),
                                  static_cast<size_t>(range.size()));
  }
};

// Holds what is computed once (rotary tables).
class Denoiser {
 public:
  virtual ~Denoiser() = default;
  // prediction [1, N, P]: the velocity of latents [1, N, P], packed and in token order, at the
  // scheduler's timestep; of the tokens that it was made for. All tensors lie on the context's
  // device.
  virtual void Predict(Context& context, float timestep, const PromptViews& prompt,
                       ConstTensorView latents, SparseInvocation& invocation,
                       TensorView prediction) const = 0;
};

}  // namespace tamias
