// A queue of work on one device: kernels and copies run in the order in which they were enqueued.
#pragma once

#include "base/cuda/device.h"
#include "tamias/device.h"

struct CUstream_st;

namespace tamias::cuda {

class Stream {
 public:
  // Throws as PropertiesOf when there is no such device.
  explicit Stream(int device = 0);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device device() const { return {DeviceType::kCuda, device_}; }
  const DeviceProperties& properties() const { return properties_; }
  CUstream_st* handle() const { return handle_; }
  // Waits for all that was enqueued; throws kDevice when something of it failed.
  void Synchronize();

 private:
  int device_;
  DeviceProperties properties_;
  CUstream_st* handle_ = nullptr;
};

}  // namespace tamias::cuda
