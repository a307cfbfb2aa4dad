// Conversion of storage formats: see the header.
#include "io/widen.h"

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/parallel.h"

namespace tamias {
namespace {

constexpr int64_t kGrain = int64_t{1} << 18;  // elements

float E4M3(uint8_t bits) { return ToFloat(Float8E4M3{bits}); }
// The upper half of a 16-bit float.
float E5M2(uint8_t bits) { return ToFloat(Float16{static_cast<uint16_t>(bits << 8)}); }

Tensor WidenFloat8(float (*to_float)(uint8_t), std::span<const std::byte> bytes,
                   const Shape& shape) {
  std::array<BFloat16, 256> values;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = ToBFloat16(to_float(static_cast<uint8_t>(i)));
  }
  Tensor result(shape, DType::kBF16);
  auto* out = static_cast<BFloat16*>(result.view().raw());
  ParallelForRanges(Context(), result.NumElements(), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      out[i] = values[static_cast<size_t>(bytes[static_cast<size_t>(i)])];
    }
  });
  return result;
}

Tensor WidenFloat64(std::span<const std::byte> bytes, const Shape& shape) {
  Tensor result(shape, DType::kF32);
  float* out = result.host_data<float>();
  ParallelForRanges(Context(), result.NumElements(), kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      double value = 0;
      std::memcpy(&value, bytes.data() + static_cast<size_t>(i) * sizeof(value), sizeof(value));
      out[i] = static_cast<float>(value);
    }
  });
  return result;
}

}  // namespace

std::optional<DType> WidenedType(std::string_view dtype_name) {
  if (dtype_name == "F64") return DType::kF32;
  if (dtype_name == "F8_E4M3" || dtype_name == "F8_E5M2") return DType::kBF16;
  return std::nullopt;
}

Tensor Widened(std::string_view dtype_name, std::span<const std::byte> bytes, const Shape& shape) {
  TAMIAS_CHECK(WidenedType(dtype_name).has_value());
  const size_t size = dtype_name == "F64" ? sizeof(double) : 1;
  TAMIAS_CHECK(bytes.size() == size * static_cast<size_t>(shape.NumElements()));
  if (dtype_name == "F64") return WidenFloat64(bytes, shape);
  return WidenFloat8(dtype_name == "F8_E4M3" ? E4M3 : E5M2, bytes, shape);
}

}  // namespace tamias
