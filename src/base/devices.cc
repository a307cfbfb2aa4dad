// Lists of devices ("cuda:0,cuda:1"), and whether they can share one work.
#include "tamias/devices.h"

#include <algorithm>

#include "base/check.h"
#include "base/cuda/device.h"

namespace tamias {

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
  for (const Device device : devices) {
    if (!names.empty()) names += ',';
    names += Name(device);
  }
  return names;
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
