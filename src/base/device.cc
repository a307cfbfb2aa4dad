// Names of devices ("cpu", "cuda", "cuda:0,cuda:1"), and whether this machine has them.
#include "tamias/device.h"

#include <algorithm>

#include "base/check.h"
#include "base/cuda/compute_capability.h"
#include "base/cuda/device.h"
#include "base/number.h"

namespace tamias {

Device ParseDevice(std::string_view text) {
  if (text == "cpu") return {};
  if (text == "cuda") return {DeviceType::kCuda, 0};
  constexpr std::string_view kPrefix = "cuda:";
  if (text.starts_with(kPrefix)) {
    const auto index = ParseNumber<int>(text.substr(kPrefix.size()));
    if (index && *index >= 0) return {DeviceType::kCuda, *index};
  }
  Fail(ErrorCode::kInvalidArgument, "device: expected cpu, cuda or cuda:<number>, found '{}'",
       text);
}

std::string Name(Device device) {
  return device.type == DeviceType::kCpu ? "cpu" : fmt::format("cuda:{}", device.index);
}

Devices ParseDevices(std::string_view text) {
  Devices devices;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const Device device = ParseDevice(text.substr(begin, end - begin));
    if (std::ranges::find(devices, device) != devices.end()) {
      Fail(ErrorCode::kInvalidArgument, "device: expected each device once, found {} twice in '{}'",
           Name(device), text);
    }
    devices.push_back(device);
    begin = end + 1;
  }
  const bool has_cpu = std::ranges::find(devices, Device{}) != devices.end();
  if (devices.size() > 1 && has_cpu) {
    Fail(ErrorCode::kInvalidArgument,
         "device: expected cpu alone, or GPUs as in cuda:0,cuda:1, found '{}'", text);
  }
  return devices;
}

std::string Name(const Devices& devices) {
  std::string names;
  for (const Device device : devices) names += (names.empty() ? "" : ",") + Name(device);
  return names;
}

void CheckDevice(Device device) {
  if (device.type == DeviceType::kCpu) return;
  cuda::CheckComputeCapability(cuda::PropertiesOf(device.index));
}

void CheckOneKind(const Devices& devices) {
  const Device first = devices.front();
  for (const Device device : devices) {
    if (device == first || std::max(first.index, device.index) >= cuda::DeviceCount()) continue;
    const std::string expected = cuda::PropertiesOf(first.index).name;
    const std::string found = cuda::PropertiesOf(device.index).name;
    if (found == expected) continue;
    Fail(ErrorCode::kInvalidArgument,
         "device: expected GPUs of one kind, found {} ({}) beside {} ({})", Name(device), found,
         Name(first), expected);
  }
}

}  // namespace tamias
