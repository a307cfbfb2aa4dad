// Where a tensor's memory lies and where an operation runs.
#pragma once

#include <string>
#include <string_view>

namespace tamias {

enum class DeviceType : unsigned char { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

// "cpu", "cuda" (the first GPU) or "cuda:1". Throws kInvalidArgument for anything else.
Device ParseDevice(std::string_view text);
// As ParseDevice reads it.
std::string Name(Device device);

// Throws with one line: kDevice in a build without CUDA and on a machine without a GPU,
// kInvalidArgument for a number that no GPU has, kUnsupported for a GPU that is too old.
void CheckDevice(Device device);

}  // namespace tamias
