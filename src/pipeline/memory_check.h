// Whether a generation fits what this process may use, beside the others that run.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "base/machine.h"
#include "pipeline/generation_plan.h"
#include "pipeline/leftovers.h"
#include "tamias/device.h"

namespace tamias {

// The generations of one pipeline that are under way, and what they were promised. Threads may use
// it at once; it must outlive its entries.
class RunningGenerations {
  // What one of them was promised.
  struct Promise {
    explicit Promise(const GenerationPlan& plan);

    size_t new_bytes;  // GenerationPlan's, as the next two
    size_t mapped_bytes;
    std::map<int, size_t> device_bytes;  // by the number of the GPU
    std::vector<PlannedCopy> copies;  // those of the host, and on GPUs what is in no device_bytes
    int threads;
  };

 public:
  // One generation's place: held while it runs.
  class Entry {
   public:
    Entry() = default;
    Entry(Entry&& other) noexcept;
    Entry& operator=(Entry&& other) noexcept;
    ~Entry() { Leave(); }

   private:
    friend class RunningGenerations;
    Entry(RunningGenerations& running, const GenerationPlan& plan);
    void Leave();

    RunningGenerations* running_ = nullptr;  // null: none
    std::list<Promise>::iterator promise_;
  };

  // Throws kOutOfMemory when the plan does not fit what this process may use, the promises to the
  // others included, when its threads cannot be had, and when one of the others has a model on a
  // GPU with other blocks streamed.
  Entry Enter(const GenerationPlan& plan, const GenerateOptions& options);
  // Whether the plan fits if these stay where they are.
  bool HasRoomBeside(const GenerationPlan& plan, const GenerateOptions& options,
                     const Leftovers& leftovers) const;
  // Whether any of them is on this GPU.
  bool AreOn(Device gpu) const;

 private:
  // What the others take beside a plan; of copies those that are not the plan's, too.
  struct Others {
    size_t new_bytes = 0;  // of the host
    size_t mapped_bytes = 0;
    std::map<int, size_t> device_bytes;  // by the number of the GPU
    int threads = 0;

    // Of the host, theirs and the plan's.
    MemoryNeed NeedOf(const GenerationPlan& plan) const;
    size_t BytesOn(Device gpu) const;
  };
  Others Beside(const GenerationPlan& plan) const;
  void CheckCopies(const GenerationPlan& plan) const;

  mutable std::mutex mutex_;
  std::list<Promise> promises_;
};

}  // namespace tamias
