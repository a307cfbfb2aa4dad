// A queue of work on one device: see the header.
#include "base/cuda/stream.h"

#include <fmt/format.h>

#include "base/cuda/error.cuh"

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
  const DeviceScope scope(other.device_);
  cudaEvent_t event = nullptr;
  Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  const cudaError_t recorded = cudaEventRecord(event, other.handle_);
  const cudaError_t waits =
      recorded == cudaSuccess ? cudaStreamWaitEvent(handle_, event, 0) : recorded;
  // The runtime frees it once nothing waits for it any more.
  static_cast<void>(cudaEventDestroy(event));
  Check(waits, fmt::format("waiting for work on GPU {}", other.device_));
}

}  // namespace tamias::cuda
