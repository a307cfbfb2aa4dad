// Random weights as files, for models that no fixture has in shapes that GPUs take.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/safetensors.h"
#include "tamias/weights.h"
#include "tests/support/device_test.h"
#include "tests/support/test_files.h"

namespace tamias {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;  // f32

// A component folder that goes away again.
class WeightsFolder {
 public:
  const std::filesystem::path& path() const { return folder_.path(); }

  // Writes the tensors in a type, and opens them.
  Weights Write(const NamedTensors& tensors, DType dtype) const {
    std::vector<Tensor> stored;
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors) {
      stored.push_back(dtype == DType::kF32 ? Tensor::CopyOf(tensor.view())
                                            : Rounded(tensor.view(), dtype));
      named.push_back({name, stored.back().view()});
    }
    WriteSafetensors(folder_ / "diffusion_pytorch_model.safetensors", named);
    return Weights::Open(path());
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace tamias
