// Whether a generation fits what this process may use, beside the others that run.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

#include "pipeline/generation_plan.h"
#include "tamias/device.h"

namespace tamias {

// The generations of one pipeline that are under way, and what they were promised. Threads may use
// it at once; it must outlive its entries.
class RunningGenerations {
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

    RunningGenerations* running_ = nullptr;
    size_t new_bytes_ = 0;
    size_t mapped_bytes_ = 0;
    std::map<int, size_t> device_bytes_;
    int threads_ = 0;
  };

  // Throws kOutOfMemory when the plan does not fit what this process may use, the promises to the
  // others included, or its threads cannot be had.
  Entry Enter(const GenerationPlan& plan, const GenerateOptions& options);
  // Whether any of them is on this GPU.
  bool AreOn(Device gpu) const;

 private:
  struct OnGpu {
    size_t bytes = 0;  // beside weights
    int generations = 0;
  };

  mutable std::mutex mutex_;
  size_t new_bytes_ = 0;          // of the host
  size_t mapped_bytes_ = 0;       // GenerationPlan's
  std::map<int, OnGpu> on_gpus_;  // by the number of the GPU
  int threads_ = 0;
};

}  // namespace tamias
