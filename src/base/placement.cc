// Which types of activations go with which devices, and names of types.
#include "tamias/placement.h"

#include "base/check.h"
#include "base/machine.h"

namespace tamias {

Placement PlacementOn(Device device, DType weights, std::optional<DType> activations) {
  if (device.type == DeviceType::kCpu) {
    const bool suits = weights == DType::kBF16 && HasBFloat16Instructions();
    return {device, activations.value_or(suits ? DType::kBF16 : DType::kF32)};
  }
  if (activations == DType::kF32) {
    Fail(ErrorCode::kUnsupported, "dtype: {} computes in 16 bits, found f32", Name(device));
  }
  return {device, activations.value_or(weights == DType::kF16 ? DType::kF16 : DType::kBF16)};
}

std::optional<DType> ParseActivationType(std::string_view text) {
  if (text == "auto") return std::nullopt;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    if (text == Name(dtype)) return dtype;
  }
  Fail(ErrorCode::kInvalidArgument, "dtype: expected auto, f32 or bf16, found '{}'", text);
}

std::optional<DType> ParseWeightType(std::string_view text) {
  if (text == "auto") return std::nullopt;
  if (text == Name(DType::kF8E4M3)) return DType::kF8E4M3;
  Fail(ErrorCode::kInvalidArgument, "weight_dtype: expected auto or {}, found '{}'",
       Name(DType::kF8E4M3), text);
}

}  // namespace tamias
