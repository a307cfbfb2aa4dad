// Errors of the CUDA runtime as tamias::Error.
#pragma once

#include "base/check.h"
#include "base/cuda/runtime.cuh"

namespace tamias::cuda {

// `action` is what was tried: "allocating 64 bytes on device 0".
inline void Check(cudaError_t status, std::string_view action) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that left the device usable must not show again at the next call
  const ErrorCode code =
      status == cudaErrorMemoryAllocation ? ErrorCode::kOutOfMemory : ErrorCode::kDevice;
  Fail(code, "{}: {}", action, cudaGetErrorString(status));
}

// The device that calls of the runtime go to, while this lives; the one before comes back after.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    Check(cudaGetDevice(&previous_), "asking for the current device");
    if (device != previous_) Check(cudaSetDevice(device), "choosing a device");
    changed_ = device != previous_;
  }
  ~DeviceScope() {
    if (changed_) static_cast<void>(cudaSetDevice(previous_));
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

}  // namespace tamias::cuda
