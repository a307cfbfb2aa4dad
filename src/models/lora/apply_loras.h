// LoRAs merged into the weights of a component: W + scale (alpha / r) B A, in fp32, rounded once to
// the weight's type.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "io/lora_file.h"
#include "tamias/weights.h"

namespace tamias {

struct ScaledLora {
  std::shared_ptr<const LoraFile> file;
  double scale = 1;  // of the user
};

// The component's weights with what the LoRAs add to them, merged when a weight is first asked for.
// component: the one of the LoRAs' layers that are meant, "transformer" also for a second one.
// Throws kInvalidFile "path: tensor 'name': ..." for layers that the model does not have, factors
// that do not fit them, and two layers of a file that change one weight; Get does so where a sum
// leaves the range of the weight's type.
Weights ApplyLoras(const Weights& weights, const std::string& component,
                   const std::vector<ScaledLora>& loras);

}  // namespace tamias
