// The GPUs of this machine. A build without CUDA, and a machine without a driver, have none.
#pragma once

#include <cstddef>
#include <string>

namespace tamias::cuda {

// 0 without a driver or a device; never throws.
int DeviceCount() noexcept;

struct DeviceProperties {
  std::string name;
  int compute_capability = 0;  // 10 * major + minor: 80, 86, 89, 90, 100, 120
  int multiprocessors = 0;
  size_t memory_bytes = 0;
  size_t shared_bytes_per_block = 0;  // with opt-in: 99 KiB on 86, 89 and 120; 163 on 80; 227 on 90
};

// Throws kDevice in a build without CUDA and on a machine without a GPU, kInvalidArgument when
// there is none of this number.
DeviceProperties PropertiesOf(int device);

// Of its memory, what no process holds now. Opens the device for this one, which takes some of it.
// Throws as PropertiesOf.
size_t FreeMemoryBytes(int device);

}  // namespace tamias::cuda
