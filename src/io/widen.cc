// Conversion of storage formats: see the header.
#include "io/widen.h"

#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/parallel.h"

namespace tamias {
namespace {

constexpr int64_t kGrain = int64_t{1} << 18;  // elements

struct Float8 {
  int mantissa_bits;
  bool has_infinity;
};
constexpr Float8 kE4M3 = {.mantissa_bits = 3, .has_infinity = false};
constexpr Float8 kE5M2 = {.mantissa_bits = 2, .has_infinity = true};

float ToFloat(Float8 format, uint8_t bits) {
  const int mantissa_values = 1 << format.mantissa_bits;
  const int exponent = (bits & 0x7F) >> format.mantissa_bits;
  const int mantissa = bits & (mantissa_values - 1);
  const int largest_exponent = 0x7F >> format.mantissa_bits;
  const int bias = largest_exponent / 2;
  const float sign = (bits & 0x80) != 0 ? -1.0f : 1.0f;
  if (exponent == largest_exponent) {
    if (format.has_infinity && mantissa == 0) return sign * std::numeric_limits<float>::infinity();
    if (format.has_infinity || mantissa == mantissa_values - 1) {
      return std::numeric_limits<float>::quiet_NaN();
    }
  }
  const bool is_normal = exponent != 0;
  const auto significand = static_cast<float>(mantissa + (is_normal ? mantissa_values : 0));
  return sign * std::ldexp(significand, std::max(exponent, 1) - bias - format.mantissa_bits);
}

Tensor WidenFloat8(Float8 format, std::span<const std::byte> bytes, const Shape& shape) {
  std::array<BFloat16, 256> values;
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = ToBFloat16(ToFloat(format, static_cast<uint8_t>(i)));
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
  return WidenFloat8(dtype_name == "F8_E4M3" ? kE4M3 : kE5M2, bytes, shape);
}

}  // namespace tamias
