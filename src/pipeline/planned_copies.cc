// A plan's copies of models: see the header.
#include "pipeline/planned_copies.h"

#include <algorithm>

#include "pipeline/generation_plan.h"

namespace tamias {
namespace {

PlannedCopy CopyOf(const ModelComponent& component, const GenerationPlan& plan, Device device) {
  PlannedCopy copy;
  copy.component = &component;
  copy.placement = plan.PlacementOf(component);
  copy.placement.device = device;
  copy.streamed = StreamedBlocks(component, plan.residency);
  const PlacedModel& model = *component.model;
  if (!ServesFiles(copy.placement)) {
    copy.bytes = model.weights().DeviceBytes(copy.placement, copy.streamed);
  }
  if (component.RunsIn(ModelStage::kDenoise) && plan.sparsity.mlp.is_enabled) {
    copy.prepared_bytes = model.SparsityWeightBytes(copy.placement);
  }
  copy.pinned_bytes = model.weights().PinnedBytes(copy.placement, copy.streamed);
  return copy;
}

}  // namespace

std::vector<PlannedCopy> PlannedCopies(const std::vector<ModelComponent>& components,
                                       const GenerationPlan& plan) {
  std::vector<PlannedCopy> copies;
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    for (const ModelComponent& component : components) {
      if (!plan.denoises && !component.RunsIn(ModelStage::kDecode)) continue;
      if (i > 0 && !component.RunsIn(ModelStage::kDenoise)) continue;
      copies.push_back(CopyOf(component, plan, plan.devices[i]));
    }
  }
  return copies;
}

size_t HostBytes(const std::vector<PlannedCopy>& copies) {
  size_t bytes = 0;
  for (const PlannedCopy& copy : copies) bytes += copy.host_bytes();
  return bytes;
}

const PlannedCopy* FindCopy(const std::vector<PlannedCopy>& copies, const CopyKey& key) {
  const auto found =
      std::ranges::find_if(copies, [&](const PlannedCopy& copy) { return copy.key() == key; });
  return found == copies.end() ? nullptr : &*found;
}

}  // namespace tamias
