// Element-wise activations of the transformer MLPs and text encoders, x -> act(x):
// GELU (Hendrycks and Gimpel, arXiv 1606.08415) in its exact, tanh and sigmoid ("quick") forms,
// SiLU = x sigmoid(x), ReLU, tanh.
//
// On a GPU: f32, f16 or bf16, rows begin at multiples of 16 bytes; the work is enqueued.
#pragma once

#include <cstdint>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

enum class Activation : uint8_t {
  kNone,
  kRelu,
  kGeluTanh,   // x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  kGeluErf,    // x/2 (1 + erf(x / sqrt(2)))
  kSilu,       // x / (1 + exp(-x))
  kQuickGelu,  // x / (1 + exp(-1.702 x))
  kTanh,       // the bounded gates of Mochi's residual branches
};

// values[...] = act(values[...]), in place. f32, any rank, last stride 1. NaN stays NaN.
void Activate(Context& context, Activation activation, TensorView values);

}  // namespace tamias
