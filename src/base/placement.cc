// Names of devices ("cpu", "cuda", "cuda:1"), and the types that go with them: f32 on the CPU; on a
// GPU f16 where the weights are f16, else bf16.
#include "base/placement.h"

#include "base/check.h"
#include "base/cuda/compute_capability.h"
#include "base/number.h"

namespace tamias {

Placement PlacementOn(Device device, DType weights) {
  if (device.type == DeviceType::kCpu) return {device, DType::kF32};
  return {device, weights == DType::kF16 ? DType::kF16 : DType::kBF16};
}

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
