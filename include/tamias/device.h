// Where a tensor's memory lies and where an operation runs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

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

// Where one generation runs: a device, or several GPUs of one kind that share its work, the first
// of them what is not shared.
using Devices = std::vector<Device>;

// Names with commas between them: "cpu", "cuda:0,cuda:1". Throws kInvalidArgument as ParseDevice,
// for a device that is named twice and for the CPU beside others.
Devices ParseDevices(std::string_view text);
// As ParseDevices reads them.
std::string Name(const Devices& devices);

// Throws with one line: kDevice in a build without CUDA and on a machine without a GPU,
// kInvalidArgument for a number that no GPU has, kUnsupported for a GPU that is too old.
void CheckDevice(Device device);
// Throws kInvalidArgument where GPUs of this machine are of different kinds. Says nothing of those
// that it does not have.
void CheckOneKind(const Devices& devices);

}  // namespace tamias
