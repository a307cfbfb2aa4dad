// The devices where a model runs: what each keeps open, and which of its components are loaded
// there, in which types of activations and weights. Nothing is loaded or opened twice. What
// generations loaded stays as long as the pipeline, unless their plans have models take turns on a
// GPU: then it goes when nobody uses it any more, but for the pinned copies of streamed blocks,
// which the next generation of the same plan finds. What was read of a model's files goes with its
// last user, always.
#pragma once

#include <atomic>
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
  // What a GPU has. While the pipeline's generations are on it (is_busy), what it had before them,
  // so that all of them plan alike.
  CardMemory Card(Device gpu, bool is_busy);
  // Pinned memory that holds copies of weights now, used or not: of all GPUs but those of `beside`.
  size_t PinnedBytes(const Devices& beside = {});
  // Loads what is not there yet: for denoising the transformer of that number, on all of the plan's
  // devices, else the stage's models on the first. The plan must outlive the lease. Threads may
  // call it at once: one loads, those of the same device wait, others do not. Throws kOutOfMemory
  // where generations under way hold a model in another way than the plan wants it.
  Lease Use(const ModelFamily& family, const GenerationPlan& plan, ModelStage stage,
            int expert = 0);

 private:
  struct Loaded {
    int users = 0;
    bool is_there = false;
    bool is_prepared_for_sparsity = false;
    std::vector<std::string> streamed;
    std::shared_ptr<const PinnedParts> pinned;  // of these blocks, when it is not there, too
    Placement placement;
    size_t bytes = 0;  // on the device
  };
  struct Place {
    std::mutex mutex;
    std::shared_ptr<DeviceResources> resources;
    std::map<Key, Loaded> models;
    std::atomic<size_t> free_bytes = 0;    // CardMemory's, as it was last asked for
    std::atomic<size_t> pinned_bytes = 0;  // of all models
  };
  static Key KeyOf(const ModelComponent& component, const GenerationPlan& plan);
  static void Drop(const PlacedModel& model, Loaded& loaded);
  // Where nobody uses it in any type. The place must be locked.
  static void GiveBackFiles(const Place& place, const PlacedModel& model);
  // The place must be locked. Lets go what the plan does not count: pinned copies that nobody uses
  // of other blocks than it streams.
  static void DropPinned(Place& place, const ModelFamily& family, const GenerationPlan& plan);
  // Likewise.
  static void Load(Place& place, const ModelFamily& family, const GenerationPlan& plan,
                   const ModelComponent& component);
  void UseOn(Device device, const ModelFamily& family, const GenerationPlan& plan,
             const std::vector<const ModelComponent*>& components, Lease& lease);
  Place& PlaceOf(Device device);

  std::mutex mutex_;  // of the map alone
  std::map<std::pair<DeviceType, int>, Place> places_;
};

}  // namespace tamias
