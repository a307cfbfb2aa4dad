// One lock for each placement: an upload of gigabytes holds up its own alone.
#include "pipeline/model_devices.h"

#include <utility>

#include "base/check.h"

namespace tamias {

ModelDevices::Place& ModelDevices::PlaceOf(const GenerationPlan& plan) {
  const Placement& placement = plan.placement;
  const std::lock_guard lock(mutex_);
  Place& place =
      places_[{placement.device.type, placement.device.index, placement.activation_dtype}];
  return place;
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
  Loaded& loaded = place.models[&model];
  const bool denoises = component.RunsIn(ModelStage::kDenoise);
  const Placement& placement = denoises ? plan.placement : plan.coder;
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
  const bool prepares = denoises && plan.sparsity.mlp.is_enabled && !placement.streams_weights;
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
    for (const ModelComponent& component : family.components()) {
      const auto found = place.models.find(component.model);
      const bool is_idle = found != place.models.end() && found->second.users == 0;
      if (is_idle && found->second.is_there && !component.RunsIn(stage)) {
        Drop(*component.model, found->second);
      }
    }
  }
  for (const ModelComponent& component : family.components()) {
    if (!component.RunsIn(stage)) continue;
    Load(place, family, plan, component);
    lease.models_.push_back(component.model);
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
  for (const PlacedModel* model : models_) {
    Loaded& loaded = place_->models[model];
    if (--loaded.users == 0 && plan_->residency.takes_turns) Drop(*model, loaded);
  }
}

}  // namespace tamias
