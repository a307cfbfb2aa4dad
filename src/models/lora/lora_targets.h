// Which weights of a model a layer of a LoRA changes: those of the layer that it names, or of the
// layers that diffusers made of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tamias/weights.h"

namespace tamias {

// Rows [begin, begin + rows) of a weight [N, K].
struct LoraTarget {
  std::string weight;
  int64_t begin = 0;
  int64_t rows = 0;
};

// The linear layers of a component by their names in diffusers and by those of the models' authors
// (Black Forest Labs for FLUX, Tencent for HunyuanVideo, Alibaba for Wan), who keep query, key and
// value in one layer, among others.
class LoraTargets {
 public:
  explicit LoraTargets(const Weights& weights);

  // In the order of the rows of the layer; null: the model has no such layer.
  const std::vector<LoraTarget>* Find(std::string_view layer, bool is_joined) const;

 private:
  void Add(const std::string& layer, std::vector<LoraTarget> targets);

  std::map<std::string, std::vector<LoraTarget>, std::less<>> dotted_;
  std::map<std::string, std::vector<LoraTarget>, std::less<>> joined_;
};

}  // namespace tamias
