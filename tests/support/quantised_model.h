// The demo model with the matrices of its transformer's blocks rounded as weights of 8 bits are, in
// the type they had: without any of 8 bits it computes what --weight-dtype fp8_e4m3 does.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "io/quantise.h"
#include "io/safetensors.h"
#include "tests/support/float8_matrix.h"
#include "tests/support/linked_model.h"
#include "tests/support/rounding.h"

namespace tamias {

// In the type it has, f16 or bf16.
inline Tensor RoundedTo8Bits(ConstTensorView weight) {
  std::optional<QuantisedMatrix> quantised = Quantise(Context(1), weight);
  const Float8Matrix matrix{std::move(quantised->codes), std::move(quantised->scales)};
  return Rounded(matrix.Wide().view(), weight.dtype());
}

// Makes a transformer's folder of another's.
inline void WriteQuantised(const fs::path& source, const fs::path& folder) {
  fs::create_directories(folder);
  fs::copy(source / "config.json", folder / "config.json");
  const char* const kName = "diffusion_pytorch_model.safetensors";
  const SafetensorsFile file(source / kName);
  std::vector<Tensor> rounded;
  std::vector<NamedTensor> tensors;
  rounded.reserve(file.entries().size());
  for (const auto& [name, entry] : file.entries()) {
    ConstTensorView tensor = file.Get(name);
    const bool is_of_block = name.find("transformer_blocks.") != name.npos;
    if (is_of_block && tensor.rank() == 2 && name.ends_with(".weight")) {
      rounded.push_back(RoundedTo8Bits(tensor));
      tensor = rounded.back();
    }
    tensors.push_back({name, tensor});
  }
  WriteSafetensors(folder / kName, tensors);
}

}  // namespace tamias
