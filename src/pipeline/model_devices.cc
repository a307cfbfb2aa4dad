// One lock for each placement: an upload of gigabytes holds up its own alone.
#include "pipeline/model_devices.h"

namespace tamias {

ModelDevices::Place& ModelDevices::PlaceOf(const Placement& placement) {
  const std::lock_guard lock(mutex_);
  return places_[{placement.device.type, placement.device.index, placement.activation_dtype}];
}

std::shared_ptr<DeviceResources> ModelDevices::Prepare(const ModelFamily& family,
                                                       const GenerationPlan& plan) {
  Place& place = PlaceOf(plan.placement);
  const std::lock_guard lock(place.mutex);
  if (place.resources == nullptr) {
    place.resources = std::make_shared<DeviceResources>(plan.placement.device);
  }
  const bool loads = !place.is_loaded;
  const bool prepares = plan.sparsity.mlp.is_enabled && !place.is_prepared_for_sparsity;
  if (!loads && !prepares) return place.resources;
  Context context(place.resources, plan.placement, plan.threads);
  if (loads) {
    Context coder(place.resources, plan.coder, plan.threads);
    family.CopyWeights(context, coder);
    coder.Synchronize();
    place.is_loaded = true;
  }
  if (prepares) {
    family.PrepareForSparsity(context);
    context.Synchronize();
    place.is_prepared_for_sparsity = true;
  }
  return place.resources;
}

}  // namespace tamias
