// The devices where a model runs: what each keeps open, and which of its components are loaded
// there, in which types of activations and weights. Nothing is loaded or opened twice. What
// generations loaded stays as long as the pipeline, unless their plans have models take turns on a
// GPU: then it goes when nobody uses it any more.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "pipeline/generation_plan.h"
#include "pipeline/model_family.h"
#include "tamias/device_resources.h"

namespace tamias {

class ModelDevices {
  struct Place;
  using Key =
      std::tuple<const PlacedModel*, DType, std::optional<DType>>;  // of activations, weights

 public:
  // While one lives, the models of a stage are ready to run.
  class Lease {
   public:
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease();

   private:
    friend class ModelDevices;
    explicit Lease(const GenerationPlan& plan) : plan_(&plan) {}

    const GenerationPlan* plan_;
    std::vector<std::pair<Place*, Key>> models_;  // none: moved from
  };

  std::shared_ptr<DeviceResources> Resources(Device device);
  // Of the plan's devices, in their order.
  std::vector<std::shared_ptr<DeviceResources>> Resources(const GenerationPlan& plan);
  // Loads what is not there yet: for denoising on all of the plan's devices, else on the first. The
  // plan must outlive the lease. Threads may call it at once: one loads, those of the same device
  // wait, others do not. Throws kOutOfMemory where generations under way hold a model in another
  // way than the plan wants it.
  Lease Use(const ModelFamily& family, const GenerationPlan& plan, ModelStage stage);

 private:
  struct Loaded {
    int users = 0;
    bool is_there = false;
    bool is_prepared_for_sparsity = false;
    std::vector<std::string> streamed;
    Placement placement;
  };
  struct Place {
    std::mutex mutex;
    std::shared_ptr<DeviceResources> resources;
    std::map<Key, Loaded> models;
  };
  static Key KeyOf(const ModelComponent& component, const GenerationPlan& plan);
  static void Drop(const PlacedModel& model, Loaded& loaded);
  // The place must be locked.
  static void Load(Place& place, const ModelFamily& family, const GenerationPlan& plan,
                   const ModelComponent& component);
  void UseOn(Device device, const ModelFamily& family, const GenerationPlan& plan, ModelStage stage,
             Lease& lease);
  Place& PlaceOf(Device device);

  std::mutex mutex_;  // of the map alone
  std::map<std::pair<DeviceType, int>, Place> places_;
};

}  // namespace tamias
