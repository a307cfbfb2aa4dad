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
  // Somebody else's queue on the device of `own`, which must outlive this and is not destroyed by
  // it.
  Stream(const Stream& own, CUstream_st* borrowed);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device device() const { return {DeviceType::kCuda, device_}; }
  const DeviceProperties& properties() const { return properties_; }
  CUstream_st* handle() const { return handle_; }
  // Waits for all that was enqueued; throws kDevice when something of it failed.
  void Synchronize();
  // What is enqueued from now on runs after all that was enqueued in `other` before.
  void WaitFor(const Stream& other);

 private:
  int device_;
  DeviceProperties properties_;
  CUstream_st* handle_ = nullptr;
  [[maybe_unused]] bool is_owner_ = true;  // not used in a build without CUDA
};

}  // namespace tamias::cuda
