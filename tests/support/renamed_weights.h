// A fixture's weights under other names and shapes, as other versions of a library save them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "tamias/weights.h"
#include "tests/support/test_files.h"

namespace tamias {

// Written to a folder that vanishes with the object.
class RenamedWeights {
 public:
  using Rename = std::function<NamedTensor(std::string name, ConstTensorView tensor)>;

  RenamedWeights(const Weights& source, const Rename& rename) {
    std::vector<NamedTensor> tensors;
    for (const std::string& tensor : source.names()) {
      tensors.push_back(rename(tensor, source.Get(tensor)));
    }
    WriteSafetensors(folder_ / "model.safetensors", tensors);
    weights_ = Weights::Open(folder_.path());
  }

  const Weights& operator*() const { return *weights_; }

 private:
  TemporaryFolder folder_;
  std::optional<Weights> weights_;
};

}  // namespace tamias
