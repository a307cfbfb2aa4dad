// The activation functions by the names that transformers' and diffusers' configs use.
#pragma once

#include <string_view>

#include "io/json.h"
#include "tamias/ops/activation.h"

namespace tamias {

// "relu", "gelu" (exact), "gelu_new" and "gelu_pytorch_tanh" (tanh form), "quick_gelu", "silu",
// "swish". Throws kUnsupported naming `field` for any other.
Activation ActivationFromName(const JsonObject& json, std::string_view field,
                              std::string_view name);

}  // namespace tamias
