// A queue of work on one device: see the header.
#include "base/cuda/stream.h"

#include <fmt/format.h>

#include "base/cuda/error.cuh"

namespace tamias::cuda {

Stream::Stream(int device) : device_(device), properties_(PropertiesOf(device)) {
  const DeviceScope scope(device);
  Check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "making a stream");
}

Stream::~Stream() { static_cast<void>(cudaStreamDestroy(handle_)); }

void Stream::Synchronize() {
  Check(cudaStreamSynchronize(handle_), fmt::format("work on GPU {}", device_));
}

}  // namespace tamias::cuda
