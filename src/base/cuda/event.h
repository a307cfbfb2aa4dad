// A mark in a queue of work, which the host and other queues, of any GPU, wait for.
#pragma once

#include "base/cuda/stream.h"

struct CUevent_st;

namespace tamias::cuda {

class Event {
 public:
  explicit Event(int device);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Marks what the stream holds by now. An event may be recorded again.
  void Record(const Stream& stream);
  // The host waits for the work marked last; not at all where nothing was. Throws kDevice when
  // something of it failed.
  void Synchronize() const;
  // The same in destructors: what failed is said where the work is waited for.
  void SynchronizeQuietly() const noexcept;
  // What is enqueued on the stream from now on begins once the work marked last is done; at once
  // where nothing was.
  void BlockStream(Stream& stream) const;

 private:
  // Not used in a build without CUDA.
  [[maybe_unused]] int device_;
  [[maybe_unused]] CUevent_st* handle_ = nullptr;
};

}  // namespace tamias::cuda
