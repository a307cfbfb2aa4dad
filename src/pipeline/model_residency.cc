// Sums over components, and streamed blocks: see the header.
#include "pipeline/model_residency.h"

#include <algorithm>

#include "base/spread.h"

namespace tamias {

size_t SparsityWeightBytes(const std::vector<ModelComponent>& components,
                           const Placement& placement) {
  size_t bytes = 0;
  for (const ModelComponent& component : components) {
    bytes += component.model->SparsityWeightBytes(placement);
  }
  return bytes;
}

std::vector<std::string> StreamedBlocks(const ModelComponent& component,
                                        const ModelResidency& residency) {
  const std::vector<std::string> all = component.model->BlockPaths();
  const auto count = static_cast<int64_t>(all.size());
  int64_t streamed = 0;
  if (component.RunsIn(ModelStage::kDenoise)) streamed = residency.streamed_blocks;
  if (component.RunsIn(ModelStage::kEncode) && residency.streams_encoders) streamed = count;
  streamed = std::min(streamed, count);
  std::vector<std::string> blocks;
  for (int64_t i = 0; i < count; ++i) {
    if (IsAmongSpread(i, streamed, count)) blocks.push_back(all[static_cast<size_t>(i)]);
  }
  return blocks;
}

}  // namespace tamias
