// One lock for each device: an upload of gigabytes holds up its own alone.
#include "pipeline/model_devices.h"

#include <malloc.h>

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

Placement PlacementOf(const CopyKey& key) {
  return {key.device, key.activation_dtype, key.weight_dtype};
}

}  // namespace

ModelDevices::Place& ModelDevices::PlaceOf(Device device) {
  const std::lock_guard lock(mutex_);
  return places_[{device.type, device.index}];
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
    for (const auto& [key, loaded] : place.models) free += loaded.bytes + loaded.prepared_bytes;
    const size_t before = place.free_bytes;
    if (before == 0 || std::max(free, before) - std::min(free, before) > kUnnoticedBytes) {
      place.free_bytes = std::min(free, all);
    }
  }
  return {all, place.free_bytes};
}

size_t ModelDevices::PinnedBytes() {
  const std::lock_guard lock(mutex_);
  size_t bytes = 0;
  for (const auto& [device, place] : places_) bytes += place.pinned_bytes;
  return bytes;
}

void ModelDevices::CountPinned(Place& place) {
  size_t bytes = 0;
  for (const auto& [key, loaded] : place.models) {
    if (loaded.pinned != nullptr) bytes += loaded.pinned->bytes();
  }
  place.pinned_bytes = bytes;
}

ModelDevices::Leftover ModelDevices::LeftoverOf(const Loaded& loaded, const PlannedCopy* planned) {
  const bool is_planned = planned != nullptr && planned->streamed == loaded.streamed;
  const bool is_copy_left = loaded.is_there && loaded.users == 0 && !is_planned;
  const bool needs_prepared = planned != nullptr && planned->prepared_bytes > 0;
  return {.copy = is_copy_left,
          .prepared =
              loaded.is_prepared && loaded.sparse_users == 0 && (is_copy_left || !needs_prepared),
          .pinned = loaded.pinned != nullptr && loaded.users == 0 && !is_planned};
}

template <typename Visit>
void ModelDevices::VisitLeftovers(const GenerationPlan& plan, const Visit& visit) {
  std::vector<std::pair<Device, Place*>> places;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [name, place] : places_) {
      places.emplace_back(Device{name.first, name.second}, &place);
    }
  }
  for (const auto& [device, place] : places) {
    std::unique_lock lock(place->mutex, std::defer_lock);
    if (std::ranges::count(plan.devices, device) > 0) {
      lock.lock();
    } else if (!lock.try_lock()) {
      continue;
    }
    for (auto& [key, loaded] : place->models) {
      visit(key, loaded, LeftoverOf(loaded, FindCopy(plan.copies, key)));
    }
    CountPinned(*place);
  }
}

Leftovers ModelDevices::LeftoversOf(const GenerationPlan& plan) {
  Leftovers left{.host_bytes = 0, .device_bytes = std::vector<size_t>(plan.devices.size())};
  VisitLeftovers(plan, [&](const CopyKey& key, const Loaded& loaded, const Leftover& leftover) {
    const size_t bytes =
        (leftover.copy ? loaded.bytes : 0) + (leftover.prepared ? loaded.prepared_bytes : 0);
    if (leftover.pinned) left.host_bytes += loaded.pinned->bytes();
    if (key.device.type == DeviceType::kCpu) left.host_bytes += bytes;
    const auto device = std::ranges::find(plan.devices, key.device);
    if (device == plan.devices.end()) return;
    left.device_bytes[static_cast<size_t>(device - plan.devices.begin())] += bytes;
  });
  return left;
}

void ModelDevices::DropLeftovers(const GenerationPlan& plan) {
  bool drops_on_host = false;
  VisitLeftovers(plan, [&](const CopyKey& key, Loaded& loaded, const Leftover& leftover) {
    drops_on_host |= key.device.type == DeviceType::kCpu && (leftover.copy || leftover.prepared);
    if (leftover.copy) {
      Drop(key, loaded);
    } else if (leftover.prepared) {
      DropPrepared(key, loaded);
    }
    if (leftover.pinned) loaded.pinned.reset();
  });
  if (drops_on_host) malloc_trim(0);  // the C library may keep what it was given back
}

void ModelDevices::Drop(const CopyKey& key, Loaded& loaded) {
  key.model->Drop(PlacementOf(key));
  loaded.is_there = loaded.is_prepared = false;
  loaded.bytes = loaded.prepared_bytes = 0;
}

void ModelDevices::DropPrepared(const CopyKey& key, Loaded& loaded) {
  key.model->DropPrepared(PlacementOf(key));
  loaded.is_prepared = false;
  loaded.prepared_bytes = 0;
}

void ModelDevices::UseFiles(const PlacedModel& model) {
  const std::lock_guard lock(files_mutex_);
  ++file_users_[&model];
}

void ModelDevices::LeaveFiles(const PlacedModel& model) {
  const std::lock_guard lock(files_mutex_);
  if (--file_users_[&model] == 0) model.weights().GiveBackFiles();
}

void ModelDevices::Load(Place& place, const GenerationPlan& plan, const PlannedCopy& copy,
                        Loaded& loaded) {
  const PlacedModel& model = *copy.component->model;
  Context context(place.resources, copy.placement, plan.threads);
  if (!loaded.is_there) {
    if (loaded.streamed != copy.streamed) loaded.pinned.reset();
    loaded.streamed = copy.streamed;
    loaded.pinned = model.CopyTo(context, copy.streamed, std::move(loaded.pinned));
    context.Synchronize();
    loaded.is_there = true;
    loaded.bytes = copy.bytes;
  }
  if (copy.prepared_bytes > 0 && !loaded.is_prepared) {
    model.PrepareForSparsity(context);
    context.Synchronize();
    loaded.is_prepared = true;
    loaded.prepared_bytes = copy.prepared_bytes;
  }
}

void ModelDevices::UseOn(Place& place, const GenerationPlan& plan,
                         const std::vector<const PlannedCopy*>& copies, Lease& lease) {
  const std::lock_guard lock(place.mutex);
  if (plan.residency.takes_turns) {
    for (auto& [key, loaded] : place.models) {
      if (loaded.is_there && loaded.users == 0) Drop(key, loaded);
    }
  }
  for (const PlannedCopy* copy : copies) {
    Loaded& loaded = place.models[copy->key()];
    if (loaded.is_there && loaded.streamed != copy->streamed) {
      TAMIAS_CHECK(loaded.users == 0);
      Drop(copy->key(), loaded);
    }
    // From here on the lease lets go what is there, even where loading fails.
    lease.models_.push_back({&place, copy});
    UseFiles(*copy->component->model);
    ++loaded.users;
    if (copy->prepared_bytes > 0) ++loaded.sparse_users;
    Load(place, plan, *copy, loaded);
    CountPinned(place);
  }
}

ModelDevices::Lease ModelDevices::Use(const GenerationPlan& plan, ModelStage stage, int expert) {
  Lease lease(*this, plan);
  for (const Device device : plan.devices) {
    std::vector<const PlannedCopy*> copies;
    for (const PlannedCopy& copy : plan.copies) {
      const ModelComponent& component = *copy.component;
      if (copy.placement.device == device && component.RunsIn(stage) &&
          component.expert == expert) {
        copies.push_back(&copy);
      }
    }
    Resources(device);
    UseOn(PlaceOf(device), plan, copies, lease);
    if (stage != ModelStage::kDenoise) break;
  }
  return lease;
}

ModelDevices::Lease::Lease(Lease&& other) noexcept
    : devices_(other.devices_), plan_(other.plan_), models_(std::exchange(other.models_, {})) {}

ModelDevices::Lease::~Lease() {
  for (const auto& [place, copy] : models_) {
    const CopyKey key = copy->key();
    {
      const std::lock_guard lock(place->mutex);
      Loaded& loaded = place->models[key];
      const bool is_last = --loaded.users == 0;
      const bool is_last_sparse = copy->prepared_bytes > 0 && --loaded.sparse_users == 0;
      if (is_last && (plan_->residency.takes_turns || !loaded.is_there)) {
        Drop(key, loaded);
      } else if (is_last_sparse && !loaded.is_prepared) {
        DropPrepared(key, loaded);
      }
      CountPinned(*place);
    }
    devices_->LeaveFiles(*key.model);
  }
}

}  // namespace tamias
