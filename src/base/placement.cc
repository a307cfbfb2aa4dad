// f32 on the CPU; on a GPU f16 where the weights are f16, else bf16.
#include "tamias/placement.h"

namespace tamias {

Placement PlacementOn(Device device, DType weights) {
  if (device.type == DeviceType::kCpu) return {device, DType::kF32};
  return {device, weights == DType::kF16 ? DType::kF16 : DType::kBF16};
}

}  // namespace tamias
