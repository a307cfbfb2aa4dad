// Where a tensor's memory lies and where an operation runs.
#pragma once

namespace tamias {

enum class DeviceType : unsigned char { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

}  // namespace tamias
