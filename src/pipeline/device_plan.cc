// The GPUs' shares of a plan: see the header.
#include "pipeline/device_plan.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "tamias/text.h"

namespace tamias {
namespace {

// What a process comes to take of a GPU without asking for it: code, cuBLASLt.
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

// The components of a stage; of denoising the transformers of `experts` alone.
std::vector<ModelComponent> ComponentsOf(const ModelFamily& family, ModelStage stage,
                                         const std::vector<int>& experts = {0}) {
  std::vector<ModelComponent> components;
  for (const ModelComponent& component : family.components()) {
    if (component.RunsIn(stage) && std::ranges::count(experts, component.expert) > 0) {
      components.push_back(component);
    }
  }
  return components;
}

void AddWeights(const std::vector<ModelComponent>& components, const GenerationPlan& plan,
                StageEntries& entries) {
  for (const ModelComponent& component : components) {
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

// What sparse steps keep: weights of these transformers prepared for them, and the state.
void AddSparsity(const std::vector<ModelComponent>& transformers, const GenerationPlan& plan,
                 const StatePlan& state, StageEntries& entries) {
  if (plan.sparsity.mlp.is_enabled && plan.placement.KeepsPreparedWeights()) {
    entries.Add("weights prepared for sparse MLPs",
                SparsityWeightBytes(transformers, plan.placement));
    entries.weight_bytes = entries.bytes;
  }
  if (const int64_t layers = plan.state_place.host_layers; layers > 0) {
    entries.Add(fmt::format("state, of {} of {} layers in turn", layers, state.NumLayers()),
                state.DeviceBytes(layers));
    return;
  }
  for (const StatePlan::Entry& entry : state.entries) {
    entries.Add("state: " + entry.name, entry.bytes);
  }
}

StageEntries EncodeEntries(const ModelFamily& family, const StageWorkspaces& workspaces,
                           const GenerationPlan& plan) {
  StageEntries entries{.name = "encoding: ", .entries = {}};
  AddWeights(ComponentsOf(family, ModelStage::kEncode), plan, entries);
  entries.Add("workspace", workspaces.encode);
  return entries;
}

// With these transformers.
StageEntries DenoiseEntries(const ModelFamily& family, const GenerationPlan& plan,
                            const DenoisingShare& share, const std::vector<int>& experts) {
  StageEntries entries{.name = "denoising: ", .entries = {}};
  const std::vector<ModelComponent> transformers =
      ComponentsOf(family, ModelStage::kDenoise, experts);
  AddWeights(transformers, plan, entries);
  AddSparsity(transformers, plan, share.state, entries);
  entries.Add("workspace", share.workspace);
  return entries;
}

// With one transformer after the other.
std::vector<StageEntries> DenoiseTurns(const ModelFamily& family, const GenerationPlan& plan,
                                       const DenoisingShare& share) {
  std::vector<StageEntries> turns;
  for (const int expert : plan.Experts()) {
    turns.push_back(DenoiseEntries(family, plan, share, {expert}));
    if (expert > 0) turns.back().name = "denoising, second transformer: ";
  }
  return turns;
}

StageEntries DecodeEntries(const ModelFamily& family, const StageWorkspaces& workspaces,
                           const GenerationPlan& plan) {
  StageEntries entries{.name = "decoding: ", .entries = {}};
  AddWeights(ComponentsOf(family, ModelStage::kDecode), plan, entries);
  entries.Add("workspace", workspaces.decode);
  return entries;
}

// The next of the plan's devices.
void AddDevice(std::vector<MemoryEntry> entries, size_t bytes, size_t new_bytes,
               GenerationPlan& plan) {
  MemoryPlan& memory = plan.memory;
  const size_t i = memory.devices.size();
  const CardMemory& card = plan.cards[i];
  memory.devices.push_back(
      {Name(plan.devices[i]), std::move(entries), bytes, card.bytes, card.free_bytes});
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

// Of the first device: all models at one time, and the workspace of the greediest stage.
StageEntries AllEntries(const ModelFamily& family, const StageWorkspaces& workspaces,
                        const GenerationPlan& plan) {
  StageEntries all{.name = "", .entries = {}};
  AddWeights(family.components(), plan, all);
  const DenoisingShare& share = plan.shares.front();
  AddSparsity(ComponentsOf(family, ModelStage::kDenoise, {0, 1}), plan, share.state, all);
  all.Add("workspace of the greediest stage",
          std::max({workspaces.encode, share.workspace, workspaces.decode}));
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
    measures.push_back(
        plan.Experts().size() > 1
            ? "encoders, each transformer and decoder are on the GPU alone"
            : "encoders, transformer and decoder are on the GPU in their stage alone");
  }
  if (const int64_t layers = plan.state_place.host_layers; layers > 0) {
    measures.push_back(fmt::format(
        "the state of {} of {} layers ({}) is in the host's memory but for its turn", layers,
        plan.shares.front().state.NumLayers(), BytesText(PinnedStateBytes(plan))));
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

// Whether each transformer's denoising is within the limit, on each device.
bool DenoisingFits(const ModelFamily& family, const GenerationPlan& plan, size_t limit) {
  return std::ranges::all_of(plan.shares, [&](const DenoisingShare& share) {
    return std::ranges::all_of(DenoiseTurns(family, plan, share),
                               [&](const StageEntries& turn) { return turn.bytes <= limit; });
  });
}

// Sets `number` to the fewest with which fits(); to `most` where it never does.
template <typename Fits>
void SetFewest(int64_t& number, int64_t most, const Fits& fits) {
  int64_t low = 0, high = most;
  while (low < high) {
    number = (low + high) / 2;
    if (fits()) {
      high = number;
    } else {
      low = number + 1;
    }
  }
  number = low;
}

}  // namespace

void PlanDevice(const ModelFamily& family, const StageWorkspaces& workspaces,
                GenerationPlan& plan) {
  BeginDevices(plan);
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    const DenoisingShare& share = plan.ShareOf(i);
    if (plan.residency.takes_turns) {
      std::vector<StageEntries> turns = DenoiseTurns(family, plan, share);
      if (i == 0) {
        turns.insert(turns.begin(), EncodeEntries(family, workspaces, plan));
        turns.push_back(DecodeEntries(family, workspaces, plan));
      }
      AddTurns(turns, plan);
    } else {
      AddTogether(i == 0 ? AllEntries(family, workspaces, plan)
                         : DenoiseEntries(family, plan, share, {0, 1}),
                  plan);
    }
  }
  plan.memory.device_measures = Measures(family, plan);
}

void PlanDecoderDevice(const ModelFamily& family, size_t workspace, GenerationPlan& plan) {
  BeginDevices(plan);
  AddTogether(DecodeEntries(family, {.decode = workspace}, plan), plan);
}

void FitDevice(const ModelFamily& family, const StageWorkspaces& workspaces,
               std::optional<size_t> limit, GenerationPlan& plan) {
  plan.residency = {};
  plan.state_place = {};
  plan.placement.streams_weights = false;
  PlanDevice(family, workspaces, plan);
  if (!limit || plan.memory.device_bytes <= *limit) return;
  ModelResidency& residency = plan.residency;
  residency.takes_turns = true;
  residency.streams_encoders = EncodeEntries(family, workspaces, plan).bytes > *limit;
  const int64_t layers = plan.shares.front().state.NumLayers();
  const auto fits = [&] { return DenoisingFits(family, plan, *limit); };
  if (!fits()) SetFewest(plan.state_place.host_layers, layers, fits);
  if (!fits() && MostBlocks(family) > 0) {
    plan.placement.streams_weights = true;
    SetFewest(residency.streamed_blocks, MostBlocks(family), fits);
    // Without transposed matrices some of the state may stay after all.
    if (fits()) SetFewest(plan.state_place.host_layers, layers, fits);
  }
  PlanDevice(family, workspaces, plan);
}

std::optional<size_t> DeviceLimit(const GenerateOptions& options, const GenerationPlan& plan) {
  std::optional<size_t> limit;
  if (options.max_gpu_memory_bytes > 0) limit = options.max_gpu_memory_bytes;
  for (const CardMemory& card : plan.cards) {
    if (card.bytes == 0) continue;
    const size_t usable = card.free_bytes - std::min(card.free_bytes / 2, kDeviceSlackBytes);
    limit = std::min(limit.value_or(usable), usable);
  }
  return limit;
}

size_t PinnedStateBytes(const GenerationPlan& plan) {
  size_t bytes = 0;
  for (size_t i = 0; i < plan.devices.size(); ++i) {
    bytes += plan.ShareOf(i).state.HostBytes(plan.state_place.host_layers);
  }
  return bytes;
}

}  // namespace tamias
