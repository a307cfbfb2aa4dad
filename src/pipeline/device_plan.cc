// The GPUs' shares of a plan: see the header.
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
  if (plan.sparsity.mlp.is_enabled && plan.placement.KeepsPreparedWeights()) {
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

// The next of the plan's devices.
void AddDevice(std::vector<MemoryEntry> entries, size_t bytes, size_t new_bytes,
               GenerationPlan& plan) {
  MemoryPlan& memory = plan.memory;
  const Device device = plan.devices[memory.devices.size()];
  memory.devices.push_back({Name(device), std::move(entries), bytes});
  memory.device_bytes = std::max(memory.device_bytes, bytes);
  plan.new_device_bytes.push_back(new_bytes);
}

// Every entry of each stage; the largest stage counts.
void AddTurns(const std::vector<StageEntries>& stages, GenerationPlan& plan) {
  std::vector<MemoryEntry> entries;
  size_t bytes = 0;
  for (const StageEntries& stage : stages) {
    for (const MemoryEntry& entry : stage.entries) {
      entries.push_back({stage.name + entry.name, entry.bytes});
    }
    bytes = std::max(bytes, stage.bytes);
  }
  AddDevice(std::move(entries), bytes, bytes, plan);  // others may be in another stage
}

void AddTogether(StageEntries all, GenerationPlan& plan) {
  AddDevice(std::move(all.entries), all.bytes, all.bytes - all.weight_bytes, plan);
}

// All models at one time, and the workspace of the greediest stage.
StageEntries AllEntries(const ModelFamily& family, const StageWorkspaces& workspaces,
                        const GenerationPlan& plan) {
  StageEntries all{.name = "", .entries = {}};
  for (const ModelComponent& component : family.components()) {
    all.Add("weights of " + component.name,
            component.model->weights().DeviceBytes(plan.PlacementOf(component)));
  }
  all.weight_bytes = all.bytes;
  AddSparsity(family, plan, all);
  all.Add("workspace of the greediest stage",
          std::max({workspaces.encode, workspaces.denoise, workspaces.decode}));
  return all;
}

void BeginDevices(GenerationPlan& plan) {
  plan.memory.devices.clear();
  plan.memory.device_bytes = 0;
  plan.new_device_bytes.clear();
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
    measures.push_back(
        fmt::format("the state ({}) is in the host's memory but for a layer's turn",
                    BytesText(plan.devices.size() * plan.state.offloaded_host_bytes)));
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
  BeginDevices(plan);
  const StageEntries denoise = DenoiseEntries(family, workspaces, plan);
  const size_t others = plan.devices.size() - 1;
  if (plan.residency.takes_turns) {
    AddTurns(
        {EncodeEntries(family, workspaces, plan), denoise, DecodeEntries(family, workspaces, plan)},
        plan);
    for (size_t i = 0; i < others; ++i) AddTurns({denoise}, plan);
  } else {
    AddTogether(AllEntries(family, workspaces, plan), plan);
    for (size_t i = 0; i < others; ++i) AddTogether(denoise, plan);
  }
  plan.memory.device_measures = Measures(family, plan);
}

void PlanDecoderDevice(const ModelFamily& family, size_t workspace, GenerationPlan& plan) {
  BeginDevices(plan);
  AddTogether(DecodeEntries(family, {.decode = workspace}, plan), plan);
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

size_t DeviceLimit(const GenerateOptions& options, const Devices& devices) {
  size_t limit = options.max_gpu_memory_bytes;
  for (const Device device : devices) {
    if (device.index >= cuda::DeviceCount()) continue;
    const size_t has = cuda::PropertiesOf(device.index).memory_bytes;
    const size_t usable = has - std::min(has / 2, kDeviceSlackBytes);
    limit = limit == 0 ? usable : std::min(limit, usable);
  }
  return limit;
}

size_t PinnedWeightBytes(const ModelFamily& family, const GenerationPlan& plan) {
  size_t bytes = 0;
  for (const ModelComponent& component : family.components()) {
    const size_t copies = component.RunsIn(ModelStage::kDenoise) ? plan.devices.size() : 1;
    bytes += copies * component.model->weights().PinnedBytes(
                          plan.PlacementOf(component), StreamedBlocks(component, plan.residency));
  }
  return bytes;
}

}  // namespace tamias
