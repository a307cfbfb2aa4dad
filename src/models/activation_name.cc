// Activations by name: see the header.
#include "models/activation_name.h"

#include "base/check.h"

#include <utility>

namespace tamias {

Activation ActivationFromName(const JsonObject& json, std::string_view field,
                              std::string_view name) {
  static constexpr std::pair<std::string_view, Activation> kNames[] = {
      {"relu", Activation::kRelu},
      {"gelu", Activation::kGeluErf},
      {"gelu_new", Activation::kGeluTanh},
      {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"quick_gelu", Activation::kQuickGelu},
      {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},
  };
  for (const auto& [known, activation] : kNames) {
    if (known == name) return activation;
  }
  Fail(ErrorCode::kUnsupported, "{}: field '{}': activation \"{}\" is not supported", json.source(),
       field, name);
}

}  // namespace tamias
