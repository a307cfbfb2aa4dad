// Names of devices ("cpu", "cuda", "cuda:1"), and whether this machine has one.
#include "tamias/device.h"

#include "base/check.h"
#include "base/cuda/compute_capability.h"
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

void CheckDevice(Device device) {
  if (device.type == DeviceType::kCpu) return;
  cuda::CheckComputeCapability(cuda::PropertiesOf(device.index));
}

}  // namespace tamias
