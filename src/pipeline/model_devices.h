// The devices where a model runs: what each keeps open, and which of its components are loaded
// there, in which types of activations and weights. Nothing is loaded or opened twice. What
// generations loaded stays as long as the pipeline, unless their plans have models take turns on a
// GPU: then it goes when nobody uses it any more, but for the pinned copies of streamed blocks,
// which the next generation of the same plan finds. It goes earlier where a plan that does not
// count it needs the room (DropLeftovers). What was read of a model's files goes with its last
// user, always.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/generation_plan.h"
#include "pipeline/leftovers.h"
#include "tamias/device_resources.h"

namespace tamias {

class ModelDevices {
  struct Place;

 public:
  // While one lives, the models of a stage are ready to run.
  class Lease {
   public:
    Lease(Lease&& other) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease();

   private:
    friend class ModelDevices;
    struct Model {
      Place* place;
      const PlannedCopy* copy;
    };
    Lease(ModelDevices& devices, const GenerationPlan& plan) : devices_(&devices), plan_(&plan) {}

    ModelDevices* devices_;
    const GenerationPlan* plan_;
    std::vector<Model> models_;  // none: moved from
  };

  std::shared_ptr<DeviceResources> Resources(Device device);
  // Of the plan's devices, in their order.
  std::vector<std::shared_ptr<DeviceResources>> Resources(const GenerationPlan& plan);
  // What a GPU has. While the pipeline's generations are on it (is_busy), what it had before them,
  // so that all of them plan alike.
  CardMemory Card(Device gpu, bool is_busy);
  // Pinned memory that holds copies of weights now, used or not, of all GPUs.
  size_t PinnedBytes();
  // What nobody uses and the plan does not count: of its devices, and of the host. Devices beside
  // the plan's where something is being loaded are passed over.
  Leftovers LeftoversOf(const GenerationPlan& plan);
  // Lets it go.
  void DropLeftovers(const GenerationPlan& plan);
  // Loads what is not there yet: for denoising the transformer of that number, on all of the plan's
  // devices, else the stage's models on the first. Plan and devices must outlive the lease. Threads
  // may call it at once: one loads, those of the same device wait, others do not. Generations with
  // other blocks streamed may not use the models (RunningGenerations sees to it).
  Lease Use(const GenerationPlan& plan, ModelStage stage, int expert = 0);

 private:
  struct Loaded {
    int users = 0;
    int sparse_users = 0;  // of them those that read what is prepared
    bool is_there = false;
    bool is_prepared = false;
    std::vector<std::string> streamed;
    std::shared_ptr<const PinnedParts> pinned;  // of these blocks, when it is not there, too
    size_t bytes = 0;                           // on the device
    size_t prepared_bytes = 0;                  // likewise
  };
  struct Place {
    std::mutex mutex;
    std::shared_ptr<DeviceResources> resources;
    std::map<CopyKey, Loaded> models;
    std::atomic<size_t> free_bytes = 0;    // CardMemory's, as it was last asked for
    std::atomic<size_t> pinned_bytes = 0;  // of all models
  };
  // Of a model, what nobody uses and a plan does not count.
  struct Leftover {
    bool copy = false;  // and all that follows of it
    bool prepared = false;
    bool pinned = false;
  };
  // planned: the plan's copy of that key; null: it has none.
  static Leftover LeftoverOf(const Loaded& loaded, const PlannedCopy* planned);
  // visit(key, loaded, leftover) for all models, their place locked.
  template <typename Visit>
  void VisitLeftovers(const GenerationPlan& plan, const Visit& visit);

  // Of these the place must be locked.
  static void CountPinned(Place& place);
  static void Drop(const CopyKey& key, Loaded& loaded);
  static void DropPrepared(const CopyKey& key, Loaded& loaded);
  static void Load(Place& place, const GenerationPlan& plan, const PlannedCopy& copy,
                   Loaded& loaded);

  void UseOn(Place& place, const GenerationPlan& plan,
             const std::vector<const PlannedCopy*>& copies, Lease& lease);
  Place& PlaceOf(Device device);
  void UseFiles(const PlacedModel& model);
  // Gives them back with the last user, wherever it is.
  void LeaveFiles(const PlacedModel& model);

  std::mutex mutex_;  // of the map alone
  std::map<std::pair<DeviceType, int>, Place> places_;
  std::mutex files_mutex_;
  std::map<const PlacedModel*, int> file_users_;
};

}  // namespace tamias
