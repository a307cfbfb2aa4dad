// Where and with what an operation runs: a placement, the device's resources, the number of threads
// and scratch memory. Every operation is passed one; there are no globals. Each stage of a
// generation (text, the denoising and the decoding of each picture) makes one, which ends with it;
// what takes long to open stays in the DeviceResources behind it.
//
// A planning context computes nothing: operations check their arguments, take from its workspace
// what they would take, and return. The code that runs is thus the code that plans, and
// workspace().peak_bytes() of a dry run is the plan of the real one.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "tamias/device_resources.h"
#include "tamias/placement.h"
#include "tamias/workspace.h"

struct CUstream_st;

namespace tamias {

class Context {
 public:
  // On the CPU. threads <= 0: one per usable CPU. workspace_bytes are reserved at once.
  explicit Context(int threads = 0, size_t workspace_bytes = 0);
  // On any device, with resources of its own; the workspace lies there, `threads` are the host's.
  // Throws as CheckDevice.
  explicit Context(const Placement& placement, int threads = 0, size_t workspace_bytes = 0);
  // With resources that it shares with others, which are those of the placement's device.
  Context(std::shared_ptr<DeviceResources> resources, const Placement& placement, int threads = 0,
          size_t workspace_bytes = 0);
  // A planning context of a placement; opens no device.
  static Context Planning(const Placement& placement = {}, int threads = 0);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Device device() const { return placement_.device; }
  bool IsOnGpu() const { return placement_.IsOnGpu(); }
  // Views have shapes and no memory; nothing may read or write them.
  bool IsPlanning() const { return is_planning_; }
  // Where operations say f32 of what layers hand to each other (activations, their caches, rows
  // that are normed, added or multiplied), each of these may on the CPU be bf16 in a context of
  // bf16. Arithmetic between reading and rounding it is fp32, but for the products of
  // tamias/ops/linear.h, attention.h, column_sparse_attention.h and column_sparse_mlp.h.
  DType activation_dtype() const { return placement_.activation_dtype; }
  const Placement& placement() const { return placement_; }
  int threads() const { return threads_; }
  Workspace& workspace() { return workspace_; }
  // Scratch memory of the host: on the CPU the workspace itself.
  Workspace& host_workspace() { return host_workspace_ ? *host_workspace_ : workspace_; }

  // The queue of a GPU's work. Needs IsOnGpu(), and not IsPlanning().
  cuda::Stream& stream() const;
  // Not of a planning context.
  DeviceResources& resources() const;
  // Waits for what was enqueued on a GPU; throws kDevice when something of it failed.
  void Synchronize() const;

 private:
  friend class StreamScope;
  struct PlanningTag {};
  Context(PlanningTag, const Placement& placement, int threads);

  Placement placement_;
  bool is_planning_ = false;
  int threads_;
  std::shared_ptr<DeviceResources> resources_;  // null when planning
  std::unique_ptr<cuda::Stream> stream_;        // null on the CPU; back to the resources at the end
  Workspace workspace_;
  std::optional<Workspace> host_workspace_;  // on a GPU
};

// While this lives, the work of a context on a GPU goes to a queue of the caller's, among the
// caller's own: it begins after what the context enqueued before, and what the context enqueues
// once this has ended begins after it. So tensors of another library are read and written without
// waiting on the host. Nothing else may use the context meanwhile.
class StreamScope {
 public:
  // `stream` is a cudaStream_t of the context's device, null for its default one, that outlives
  // this. The context IsOnGpu() and is not planning.
  StreamScope(Context& context, CUstream_st* stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  Context& context_;
  std::unique_ptr<cuda::Stream> own_;
};

}  // namespace tamias
