// A queue of work on one device: see the header.
#include "base/cuda/stream.h"

#include <fmt/format.h>

#include "base/cuda/error.cuh"
#include "base/cuda/event.h"

namespace tamias::cuda {

Stream::Stream(int device) : device_(device), properties_(PropertiesOf(device)) {
  const DeviceScope scope(device);
  Check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "making a stream");
}

Stream::Stream(const Stream& own, CUstream_st* borrowed)
    : device_(own.device_), properties_(own.properties_), handle_(borrowed), is_owner_(false) {}

Stream::~Stream() {
  if (is_owner_) static_cast<void>(cudaStreamDestroy(handle_));
}

void Stream::Synchronize() {
  Check(cudaStreamSynchronize(handle_), fmt::format("work on GPU {}", device_));
}

void Stream::WaitFor(const Stream& other) {
  Event mark(other.device_);  // the runtime keeps it for as long as something waits for it
  mark.Record(other);
  mark.BlockStream(*this);
}

}  // namespace tamias::cuda
