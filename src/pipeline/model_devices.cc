// One lock for each device: an upload of gigabytes holds up its own alone.
#include "pipeline/model_devices.h"

#include <utility>

#include "base/check.h"

namespace tamias {

ModelDevices::Place& ModelDevices::PlaceOf(const GenerationPlan& plan) {
  const Device device = plan.placement.device;
  const std::lock_guard lock(mutex_);
  return places_[{device.type, device.index}];
}

ModelDevices::Key ModelDevices::KeyOf(const ModelComponent& component, const GenerationPlan& plan) {
  return {component.model, plan.PlacementOf(component).activation_dtype};
}

std::shared_ptr<DeviceResources> ModelDevices::Resources(const GenerationPlan& plan) {
  Place& place = PlaceOf(plan);
  const std::lock_guard lock(place.mutex);
  if (place.resources == nullptr) {
    place.resources = std::make_shared<DeviceResources>(plan.placement.device);
  }
  return place.resources;
}

void ModelDevices::Drop(const PlacedModel& model, Loaded& loaded) {
  model.Drop(loaded.placement);
  loaded = {};
}

void ModelDevices::Load(Place& place, const ModelFamily& family, const GenerationPlan& plan,
                        const ModelComponent& component) {
  const PlacedModel& model = *component.model;
  Loaded& loaded = place.models[KeyOf(component, plan)];
  const Placement& placement = plan.PlacementOf(component);
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
                        !placement.streams_weights;
  if (prepares && !loaded.is_prepared_for_sparsity) {
    model.PrepareForSparsity(context);
    context.Synchronize();
    loaded.is_prepared_for_sparsity = true;
  }
  ++loaded.users;
}

ModelDevices::Lease ModelDevices::Use(const ModelFamily& family, const GenerationPlan& plan,
                                      ModelStage stage) {
  Resources(plan);
  Place& place = PlaceOf(plan);
  Lease lease(place, plan);  // goes after the lock, which it takes when it ends
  const std::lock_guard lock(place.mutex);
  if (plan.residency.takes_turns) {
    for (auto& [key, loaded] : place.models) {
      if (loaded.is_there && loaded.users == 0) Drop(*key.first, loaded);
    }
  }
  for (const ModelComponent& component : family.components()) {
    if (!component.RunsIn(stage)) continue;
    Load(place, family, plan, component);
    lease.models_.push_back(KeyOf(component, plan));
  }
  return lease;
}

ModelDevices::Lease::Lease(Lease&& other) noexcept
    : place_(std::exchange(other.place_, nullptr)),
      plan_(other.plan_),
      models_(std::move(other.models_)) {}

ModelDevices::Lease::~Lease() {
  if (place_ == nullptr) return;
  const std::lock_guard lock(place_->mutex);
  for (const Key& key : models_) {
    Loaded& loaded = place_->models[key];
    if (--loaded.users == 0 && plan_->residency.takes_turns) Drop(*key.first, loaded);
  }
}

}  // namespace tamias
