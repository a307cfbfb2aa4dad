// Which models a stage of a generation runs, and how much of them lies on a GPU at one time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/model_on_devices.h"

namespace tamias {

enum class ModelStage : uint8_t { kEncode = 1, kDenoise = 2, kDecode = 4 };

// A part of a model with weights, as the checkpoint names it.
struct ModelComponent {
  std::string name;
  const PlacedModel* model = nullptr;
  uint8_t stages = 0;  // that run it: bits of ModelStage
  int expert = 0;      // of transformers: that of ModelFamily::ExpertAt

  bool RunsIn(ModelStage stage) const { return (stages & static_cast<uint8_t>(stage)) != 0; }
};

// In the order in which memory is saved: each costs more time than the one before. After
// the first of them comes the state (StatePlace::host_layers).
struct ModelResidency {
  bool takes_turns = false;       // a model is on the GPU while it runs alone
  int64_t streamed_blocks = 0;    // of each transformer
  bool streams_encoders = false;  // all blocks of the text encoders
};

// What components hold once they are prepared for sparse MLPs.
size_t SparsityWeightBytes(const std::vector<ModelComponent>& components,
                           const Placement& placement);

// The blocks of a component that are streamed, spread evenly among those that are not, so that
// those give the copies time.
std::vector<std::string> StreamedBlocks(const ModelComponent& component,
                                        const ModelResidency& residency);

}  // namespace tamias
