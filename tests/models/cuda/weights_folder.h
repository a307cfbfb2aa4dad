// Random weights as files, for models that no fixture has in shapes that GPUs take.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "tests/ops/cuda/device_test.h"

namespace tamias::testing {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;  // f32

// A component folder that goes away again.
class WeightsFolder {
 public:
  WeightsFolder()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("tamias-weights-{}-{}", getpid(), static_cast<const void*>(this))) {
    std::filesystem::create_directories(path_);
  }
  ~WeightsFolder() { std::filesystem::remove_all(path_); }
  WeightsFolder(const WeightsFolder&) = delete;
  WeightsFolder& operator=(const WeightsFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

  // Writes the tensors in a type, and opens them.
  Weights Write(const NamedTensors& tensors, DType dtype) const {
    std::vector<Tensor> stored;
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors) {
      stored.push_back(dtype == DType::kF32 ? Tensor::CopyOf(tensor.view())
                                            : Rounded(tensor.view(), dtype));
      named.push_back({name, stored.back().view()});
    }
    WriteSafetensors(path_ / "diffusion_pytorch_model.safetensors", named);
    return Weights::Open(path_);
  }

 private:
  std::filesystem::path path_;
};

}  // namespace tamias::testing
