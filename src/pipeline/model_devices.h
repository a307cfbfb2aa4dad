// The placements (devices, types of activations) that a model was made ready for: what each keeps
// open, its weights there, and what sparse MLPs need. Nothing of it is loaded or opened twice, and
// all of it lives as long as the pipeline.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

#include "pipeline/generation_plan.h"
#include "pipeline/model_family.h"
#include "tamias/device_resources.h"

namespace tamias {

class ModelDevices {
 public:
  // Makes ready, for the plan's placement, what every generation there shares, unless it is
  // already. Threads may call it at once: one uploads, those of the same placement wait, others do
  // not.
  std::shared_ptr<DeviceResources> Prepare(const ModelFamily& family, const GenerationPlan& plan);

 private:
  struct Place {
    std::mutex mutex;
    std::shared_ptr<DeviceResources> resources;
    bool is_loaded = false;
    bool is_prepared_for_sparsity = false;
  };
  Place& PlaceOf(const Placement& placement);

  std::mutex mutex_;  // of the map alone
  std::map<std::tuple<DeviceType, int, DType>, Place> places_;
};

}  // namespace tamias
