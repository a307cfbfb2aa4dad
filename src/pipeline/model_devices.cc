// One lock for each device: an upload of gigabytes holds up its own device alone.
#include "pipeline/model_devices.h"

namespace tamias {

ModelDevices::Place& ModelDevices::PlaceOf(Device device) {
  const std::lock_guard lock(mutex_);
  return places_[{device.type, device.index}];
}

std::shared_ptr<DeviceResources> ModelDevices::Prepare(const ModelFamily& family,
                                                       const GenerationPlan& plan) {
  Place& place = PlaceOf(plan.placement.device);
  const std::lock_guard lock(place.mutex);
  if (place.resources == nullptr) {
    place.resources = std::make_shared<DeviceResources>(plan.placement.device);
  }
  const bool loads = plan.placement.IsOnGpu() && !place.is_loaded;
  const bool prepares = plan.sparsity.mlp.is_enabled && !place.is_prepared_for_sparsity;
  if (!loads && !prepares) return place.resources;
  Context context(place.resources, plan.placement, plan.threads);
  if (loads) {
    Context coder(place.resources, plan.coder, plan.threads);
    family.LoadOnGpu(context, coder);
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
