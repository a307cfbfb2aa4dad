// A mark in a queue of work: see the header.
#include "base/cuda/event.h"

#include "base/cuda/error.cuh"
#include "tamias/error.h"

namespace tamias::cuda {

Event::Event(int device) : device_(device) {
  const DeviceScope scope(device);
  Check(cudaEventCreateWithFlags(&handle_, cudaEventDisableTiming), "making an event");
}

Event::~Event() { static_cast<void>(cudaEventDestroy(handle_)); }

void Event::Record(const Stream& stream) {
  const DeviceScope scope(device_);
  Check(cudaEventRecord(handle_, stream.handle()), "recording an event");
}

void Event::Synchronize() const {
  const DeviceScope scope(device_);
  Check(cudaEventSynchronize(handle_), "waiting for an event");
}

void Event::SynchronizeQuietly() const noexcept {
  try {
    Synchronize();
  } catch (const Error&) {
  }
}

void Event::BlockStream(Stream& stream) const {
  const DeviceScope scope(device_);
  Check(cudaStreamWaitEvent(stream.handle(), handle_, 0), "waiting for an event");
}

}  // namespace tamias::cuda
