// One lock for each device: an upload of gigabytes holds up its own alone.
#include "pipeline/model_devices.h"

#include <utility>

#include "base/check.h"

namespace tamias {

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

void ModelDevices::Drop(const PlacedModel& model, Loaded& loaded) {
  model.Drop(loaded.placement);
  loaded = {};
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
    model.CopyTo(context, streamed);
    context.Synchronize();
    loaded.is_there = true;
    loaded.streamed = std::move(streamed);
    loaded.placement = placement;
  }
  const bool prepares = component.RunsIn(ModelStage::kDenoise) && plan.sparsity.mlp.is_enabled &&
                        placement.KeepsPreparedWeights();
  if (prepares && !loaded.is_prepared_for_sparsity) {
    model.PrepareForSparsity(context);
    context.Synchronize();
    loaded.is_prepared_for_sparsity = true;
  }
  ++loaded.users;
}

void ModelDevices::UseOn(Device device, const ModelFamily& family, const GenerationPlan& plan,
                         ModelStage stage, Lease& lease) {
  Resources(device);
  Place& place = PlaceOf(device);
  const std::lock_guard lock(place.mutex);
  if (plan.residency.takes_turns) {
    for (auto& [key, loaded] : place.models) {
      if (loaded.is_there && loaded.users == 0) Drop(*std::get<0>(key), loaded);
    }
  }
  for (const ModelComponent& component : family.components()) {
    if (!component.RunsIn(stage)) continue;
    Load(place, family, plan, component);
    lease.models_.emplace_back(&place, KeyOf(component, plan));
  }
}

ModelDevices::Lease ModelDevices::Use(const ModelFamily& family, const GenerationPlan& plan,
                                      ModelStage stage) {
  Lease lease(plan);
  for (const Device device : plan.devices) {
    UseOn(device, family, plan, stage, lease);
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
  }
}

}  // namespace tamias
