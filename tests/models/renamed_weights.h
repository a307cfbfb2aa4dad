// A fixture's weights under other names and shapes, as other versions of a library save them.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "io/safetensors.h"

namespace tamias {

// Written to a folder that vanishes with the object.
class RenamedWeights {
 public:
  using Rename = std::function<NamedTensor(std::string name, ConstTensorView tensor)>;

  RenamedWeights(const Weights& source, const Rename& rename) {
    std::string name = (std::filesystem::temp_directory_path() / "tamias-test-XXXXXX").string();
    folder_ = mkdtemp(name.data());
    std::vector<NamedTensor> tensors;
    for (const std::string& tensor : source.names()) {
      tensors.push_back(rename(tensor, source.Get(tensor)));
    }
    WriteSafetensors(folder_ / "model.safetensors", tensors);
    weights_ = Weights::Open(folder_);
  }
  ~RenamedWeights() { std::filesystem::remove_all(folder_); }
  RenamedWeights(const RenamedWeights&) = delete;
  RenamedWeights& operator=(const RenamedWeights&) = delete;

  const Weights& operator*() const { return *weights_; }

 private:
  std::filesystem::path folder_;
  std::optional<Weights> weights_;
};

}  // namespace tamias
