// One lock for each device: an upload of gigabytes holds up its own alone.
#include "pipeline/model_devices.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/cuda/device.h"
#include "base/offloaded_parts.h"

namespace tamias {
namespace {

// Changes of a GPU's free memory that change no plan: what its first generations load of code and
// libraries, and what comes and goes beside.
constexpr size_t kUnnoticedBytes = size_t{192} << 20;

}  // namespace

ModelDevices::Place& ModelDevices::PlaceOf(Device device) {
  const std::lock_guard lock(mutex_);
  return places_[{device.type, device.index}];
}

ModelDevices::Key ModelDevices::KeyOf(const ModelComponent& component, const GenerationPlan& plan) {
  const Placement& placement = plan.PlacementOf(component);
  return {component.model, placement.activation_dtype, placement.weight_dtype};
}

std::shared_ptr<DeviceResources> ModelDevices::Resources(Device device) {
  Place& place = PlaceOf(device);
  const std::lock_guard lock(place.mutex);
  if (place.resources == nullptr) place.resources = std::make_shared<DeviceResources>(device);
  return place.resources;
}

std::vector<std::shared_ptr<DeviceResources>> ModelDevices::Resources(const GenerationPlan& plan) {
  std::vector<std::shared_ptr<DeviceResources>> resources;
  for (const Device device : plan.devices) resources.push_back(Resources(device));
  return resources;
}

CardMemory ModelDevices::Card(Device gpu, bool is_busy) {
  if (gpu.index >= cuda::DeviceCount()) return {};
  const size_t all = cuda::PropertiesOf(gpu.index).memory_bytes;
  Place& place = PlaceOf(gpu);
  if (!is_busy) {
    const std::lock_guard lock(place.mutex);
    size_t free = cuda::FreeMemoryBytes(gpu.index);
    for (const auto& [key, loaded] : place.models) free += loaded.bytes;
    const size_t before = place.free_bytes;
    if (before == 0 || std::max(free, before) - std::min(free, before) > kUnnoticedBytes) {
      place.free_bytes = std::min(free, all);
    }
  }
  return {all, place.free_bytes};
}

void ModelDevices::Drop(const PlacedModel& model, Loaded& loaded) {
  model.Drop(loaded.placement);
  Loaded left;
  left.streamed = std::move(loaded.streamed);
  left.pinned = std::move(loaded.pinned);
  loaded = std::move(left);
}

void ModelDevices::GiveBackFiles(const Place& place, const PlacedModel& model) {
  const bool is_used = std::ranges::any_of(place.models, [&](const auto& one) {
    return std::get<0>(one.first) == &model && one.second.users > 0;
  });
  if (!is_used) model.weights().GiveBackFiles();
}

void ModelDevices::DropPinned(Place& place, const ModelFamily& family, const GenerationPlan& plan) {
  std::map<Key, std::vector<std::string>> planned;
  for (const ModelComponent& component : family.components()) {
    planned[KeyOf(component, plan)] = StreamedBlocks(component, plan.residency);
  }
  for (auto& [key, loaded] : place.models) {
    if (loaded.is_there) continue;
    const auto found = planned.find(key);
    if (found == planned.end() || found->second != loaded.streamed) loaded.pinned.reset();
  }
}

size_t ModelDevices::PinnedBytes(const Devices& beside) {
  const std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const auto& [name, place] : places_) {
    const Device device{name.first, name.second};
    if (std::ranges::count(beside, device) == 0) bytes += place.pinned_bytes;
  }
  return bytes;
}

void ModelDevices::Load(Place& place, const ModelFamily& family, const GenerationPlan& plan,
                        const ModelComponent& component) {
  const PlacedModel& model = *component.model;
  Loaded& loaded = place.models[KeyOf(component, plan)];
  Placement placement = plan.PlacementOf(component);
  placement.device = place.resources->device();
  std::vector<std::string> streamed = StreamedBlocks(component, plan.residency);
  if (loaded.is_there && loaded.streamed != streamed) {
    if (loaded.users > 0) {
      Fail(ErrorCode::kOutOfMemory,
           "{}: {} is held on {} in another way by a generation under way, which must end first",
           family.folder().path().string(), component.name, Name(placement.device));
    }
    Drop(model, loaded);
  }
  Context context(place.resources, placement, plan.threads);
  if (!loaded.is_there) {
    if (loaded.streamed != streamed) loaded.pinned.reset();
    loaded.pinned = model.CopyTo(context, streamed, std::move(loaded.pinned));
    context.Synchronize();
    loaded.is_there = true;
    loaded.bytes = model.weights().DeviceBytes(placement, streamed);
    loaded.streamed = std::move(streamed);
    loaded.placement = placement;
  }
  const bool prepares = component.RunsIn(ModelStage::kDenoise) && plan.sparsity.mlp.is_enabled &&
                        placement.KeepsPreparedWeights();
  if (prepares && !loaded.is_prepared_for_sparsity) {
    model.PrepareForSparsity(context);
    context.Synchronize();
    loaded.is_prepared_for_sparsity = true;
    loaded.bytes += model.SparsityWeightBytes(placement);
  }
  ++loaded.users;
}

void ModelDevices::UseOn(Device device, const ModelFamily& family, const GenerationPlan& plan,
                         const std::vector<const ModelComponent*>& components, Lease& lease) {
  Resources(device);
  Place& place = PlaceOf(device);
  const std::lock_guard lock(place.mutex);
  if (plan.residency.takes_turns) {
    for (auto& [key, loaded] : place.models) {
      if (loaded.is_there && loaded.users == 0) Drop(*std::get<0>(key), loaded);
    }
  }
  DropPinned(place, family, plan);
  for (const ModelComponent* component : components) {
    Load(place, family, plan, *component);
    lease.models_.emplace_back(&place, KeyOf(*component, plan));
  }
  size_t pinned = 0;
  for (const auto& [key, loaded] : place.models) {
    if (loaded.pinned != nullptr) pinned += loaded.pinned->bytes();
  }
  place.pinned_bytes = pinned;
}

ModelDevices::Lease ModelDevices::Use(const ModelFamily& family, const GenerationPlan& plan,
                                      ModelStage stage, int expert) {
  std::vector<const ModelComponent*> components;
  for (const ModelComponent& component : family.components()) {
    if (component.RunsIn(stage) && component.expert == expert) components.push_back(&component);
  }
  Lease lease(plan);
  for (const Device device : plan.devices) {
    UseOn(device, family, plan, components, lease);
    if (stage != ModelStage::kDenoise) break;
  }
  return lease;
}

ModelDevices::Lease::Lease(Lease&& other) noexcept
    : plan_(other.plan_), models_(std::exchange(other.models_, {})) {}

ModelDevices::Lease::~Lease() {
  for (const auto& [place, key] : models_) {
    const std::lock_guard lock(place->mutex);
    Loaded& loaded = place->models[key];
    if (--loaded.users == 0 && plan_->residency.takes_turns) Drop(*std::get<0>(key), loaded);
    GiveBackFiles(*place, *std::get<0>(key));
  }
}

}  // namespace tamias
