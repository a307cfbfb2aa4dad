// Where and with what an operation runs: the device, its queue, the number of threads and scratch
// memory. Every operation is passed one; there are no globals. A generation makes one for each of
// its stages (upload, text, the denoising and the decoding of each picture), which ends with it.
#pragma once

#include <cstddef>
#include <memory>

#include "base/placement.h"
#include "base/workspace.h"

namespace tamias {

namespace cuda {
class CublasLt;  // ops/cuda/cublas_lt.h
class Stream;    // base/cuda/stream.h
}  // namespace cuda

class Context {
 public:
  // On the CPU. threads <= 0: one per usable CPU. workspace_bytes are reserved at once.
  explicit Context(int threads = 0, size_t workspace_bytes = 0);
  // On any device; the workspace lies there, `threads` are the host's. Throws as CheckDevice.
  explicit Context(const Placement& placement, int threads = 0, size_t workspace_bytes = 0);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  Device device() const { return placement_.device; }
  bool IsOnGpu() const { return placement_.IsOnGpu(); }
  DType activation_dtype() const { return placement_.activation_dtype; }
  const Placement& placement() const { return placement_; }
  int threads() const { return threads_; }
  Workspace& workspace() { return workspace_; }

  // The queue of a GPU's work. Needs IsOnGpu().
  cuda::Stream& stream() const;
  // The library of dense layers on a GPU: made by the first of them (ops/linear.cc), kept here.
  std::shared_ptr<cuda::CublasLt>& cublas_lt() { return cublas_lt_; }
  // Waits for what was enqueued on a GPU; throws kDevice when something of it failed.
  void Synchronize() const;

 private:
  Placement placement_;
  int threads_;
  std::unique_ptr<cuda::Stream> stream_;  // null on the CPU
  std::shared_ptr<cuda::CublasLt> cublas_lt_;
  Workspace workspace_;
};

}  // namespace tamias
