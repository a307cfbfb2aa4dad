// A GPU's share of a plan: see the header.
#include "pipeline/device_plan.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "base/cuda/device.h"
#include "tamias/text.h"

namespace tamias {
namespace {

// What a process takes of a GPU without asking for it: the driver's context, code, cuBLASLt.
constexpr size_t kDeviceSlackBytes = size_t{384} << 20;

struct StageEntries {
  const char* name;  // what goes before its entries where models take turns
  std::vector<MemoryEntry> entries;
  size_t bytes = 0;
  size_t weight_bytes = 0;

  void Add(std::string entry, size_t size) {
    entries.push_back({std::move(entry), size});
    bytes += size;
  }
};

void AddWeights(const ModelFamily& family, const GenerationPlan& plan, ModelStage stage,
                StageEntries& entries) {
  for (const ModelComponent& component : family.components()) {
    if (!component.RunsIn(stage)) continue;
    const std::vector<std::string> streamed = StreamedBlocks(component, plan.residency);
    std::string name = "weights of " + component.name;
    if (!streamed.empty()) {
      name += fmt::format(", {} of their blocks in turn", streamed.size());
    }
    entries.Add(std::move(name),
                component.model->weights().DeviceBytes(plan.PlacementOf(component), streamed));
  }
  entries.weight_bytes = entries.bytes;
}

// What sparse steps keep: weights prepared for them, and the state.
void AddSparsity(const ModelFamily& family, const GenerationPlan& plan, StageEntries& entries) {
  if (plan.sparsity.mlp.is_enabled && !plan.placement.streams_weights) {
    entries.Add("weights prepared for sparse MLPs", family.SparsityWeightBytes(plan.placement));
    entries.weight_bytes = entries.bytes;
  }
  if (plan.residency.offloads_state) {
    entries.Add("state, three layers of it at a time", plan.state.offloaded_device_bytes);
    return;
  }
  for (const StatePlan::Entry& entry : plan.state.entries) {
    entries.Add("state: " + entry.name, entry.bytes);
  }
}

StageEntries EncodeEntries(const ModelFamily& family, const StageWorkspaces& workspaces,
                           const GenerationPlan& plan) {
  StageEntries entries{.name = "encoding: ", .entries = {}};
  AddWeights(family, plan, ModelStage::kEncode, entries);
  entries.Add("workspace", workspaces.encode);
  return entries;
}

StageEntries DenoiseEntries(const ModelFamily& family, const StageWorkspaces& workspaces,
                            const GenerationPlan& plan) {
  StageEntries entries{.name = "denoising: ", .entries = {}};
  AddWeights(family, plan, ModelStage::kDenoise, entries);
  AddSparsity(family, plan, entries);
  entries.Add("workspace", workspaces.denoise);
  return entries;
}

StageEntries DecodeEntries(const ModelFamily& family, const StageWorkspaces& workspaces,
                           const GenerationPlan& plan) {
  StageEntries entries{.name = "decoding: ", .entries = {}};
  AddWeights(family, plan, ModelStage::kDecode, entries);
  entries.Add("workspace", workspaces.decode);
  return entries;
}

// Every entry of each stage; the largest stage counts.
void PlanTurns(const std::vector<StageEntries>& stages, GenerationPlan& plan) {
  for (const StageEntries& stage : stages) {
    for (const MemoryEntry& entry : stage.entries) {
      plan.memory.device_entries.push_back({stage.name + entry.name, entry.bytes});
    }
    plan.memory.device_bytes = std::max(plan.memory.device_bytes, stage.bytes);
  }
  plan.new_device_bytes = plan.memory.device_bytes;  // others may be in another stage
}

// All models at one time, and the workspace of the greediest stage.
void PlanTogether(const ModelFamily& family, const StageWorkspaces& workspaces,
                  GenerationPlan& plan) {
  StageEntries all{.name = "", .entries = {}};
  for (const ModelComponent& component : family.components()) {
    all.Add("weights of " + component.name, component.model->weights().DeviceBytes(plan.placement));
  }
  all.weight_bytes = all.bytes;
  AddSparsity(family, plan, all);
  all.Add("workspace of the greediest stage",
          std::max({workspaces.encode, workspaces.denoise, workspaces.decode}));
  plan.memory.device_entries = std::move(all.entries);
  plan.memory.device_bytes = all.bytes;
  plan.new_device_bytes = all.bytes - all.weight_bytes;
}

int64_t MostBlocks(const ModelFamily& family) {
  size_t most = 0;
  for (const ModelComponent& component : family.components()) {
    if (component.RunsIn(ModelStage::kDenoise)) {
      most = std::max(most, component.model->BlockPaths().size());
    }
  }
  return static_cast<int64_t>(most);
}

std::vector<std::string> Measures(const ModelFamily& family, const GenerationPlan& plan) {
  const ModelResidency& residency = plan.residency;
  std::vector<std::string> measures;
  if (residency.takes_turns) {
    measures.push_back("encoders, transformer and decoder are on the GPU in their stage alone");
  }
  if (residency.offloads_state) {
    measures.push_back(fmt::format("the state ({}) is in the host's memory but for a layer's turn",
                                   BytesText(plan.state.offloaded_host_bytes)));
  }
  if (plan.placement.streams_weights && plan.sparsity.mlp.is_enabled) {
    measures.push_back(
        "what sparse MLPs read transposed is made of the weights for each layer's turn");
  }
  if (residency.streamed_blocks > 0) {
    measures.push_back(
        fmt::format("{} of the transformer's {} blocks come from the host's memory at each step",
                    residency.streamed_blocks, MostBlocks(family) + 1));
  }
  if (residency.streams_encoders) {
    measures.push_back("the text encoders' blocks come from the host's memory one by one");
  }
  return measures;
}

// The fewest streamed blocks with which the denoising stage is within the limit; all of them where
// none does.
int64_t FewestBlocks(const ModelFamily& family, const StageWorkspaces& workspaces, size_t limit,
                     GenerationPlan plan) {
  int64_t low = 0, high = MostBlocks(family);
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    plan.residency.streamed_blocks = middle;
    if (DenoiseEntries(family, workspaces, plan).bytes <= limit) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

void PlanDevice(const ModelFamily& family, const StageWorkspaces& workspaces,
                GenerationPlan& plan) {
  plan.memory.device_entries.clear();
  plan.memory.device_bytes = 0;
  if (plan.residency.takes_turns) {
    PlanTurns({EncodeEntries(family, workspaces, plan), DenoiseEntries(family, workspaces, plan),
               DecodeEntries(family, workspaces, plan)},
              plan);
  } else {
    PlanTogether(family, workspaces, plan);
  }
  plan.memory.device_measures = Measures(family, plan);
}

void PlanDecoderDevice(const ModelFamily& family, size_t workspace, GenerationPlan& plan) {
  StageEntries decode = DecodeEntries(family, {.decode = workspace}, plan);
  plan.memory.device_entries = std::move(decode.entries);
  plan.memory.device_bytes = decode.bytes;
  plan.new_device_bytes = decode.bytes - decode.weight_bytes;
}

void FitDevice(const ModelFamily& family, const StageWorkspaces& workspaces, size_t limit,
               GenerationPlan& plan) {
  plan.residency = {};
  plan.placement.streams_weights = false;
  PlanDevice(family, workspaces, plan);
  if (limit == 0 || plan.memory.device_bytes <= limit) return;
  ModelResidency& residency = plan.residency;
  residency.takes_turns = true;
  residency.streams_encoders = EncodeEntries(family, workspaces, plan).bytes > limit;
  const auto fits = [&] { return DenoiseEntries(family, workspaces, plan).bytes <= limit; };
  if (!fits() && plan.state.offloaded_host_bytes > 0) residency.offloads_state = true;
  if (!fits() && MostBlocks(family) > 0) {
    plan.placement.streams_weights = true;
    residency.streamed_blocks = FewestBlocks(family, workspaces, limit, plan);
  }
  plan.state_place = residency.offloads_state ? StatePlace::kHost : StatePlace::kMemory;
  PlanDevice(family, workspaces, plan);
}

size_t DeviceLimit(const GenerateOptions& options, const Placement& placement) {
  const int index = placement.device.index;
  size_t limit = options.max_gpu_memory_bytes;
  if (index < cuda::DeviceCount()) {
    const size_t has = cuda::PropertiesOf(index).memory_bytes;
    const size_t usable = has - std::min(has / 2, kDeviceSlackBytes);
    limit = limit == 0 ? usable : std::min(limit, usable);
  }
  return limit;
}

size_t PinnedWeightBytes(const ModelFamily& family, const GenerationPlan& plan) {
  size_t bytes = 0;
  for (const ModelComponent& component : family.components()) {
    bytes += component.model->weights().PinnedBytes(plan.PlacementOf(component),
                                                    StreamedBlocks(component, plan.residency));
  }
  return bytes;
}

}  // namespace tamias
