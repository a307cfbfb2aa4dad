// The conversion to 8-bit floats: of all codes the nearest, and the even one of two.
#include "ops/quantise_rows.h"

#include <cmath>
#include <limits>

#include "ops/reference/elements.h"

namespace tamias::reference {
namespace {

constexpr int kCodes = 0x7F;  // that are not negative, from 0 to 448, before NaN

Float8E4M3 Nearest(double value) {
  int nearest = 0;
  double distance = std::numeric_limits<double>::infinity();
  for (int code = 0; code < kCodes; ++code) {
    const double other =
        std::abs(std::abs(value) - double{ToFloat(Float8E4M3{static_cast<uint8_t>(code)})});
    if (other < distance || (other == distance && code % 2 == 0)) {
      nearest = code;
      distance = other;
    }
  }
  return {static_cast<uint8_t>(nearest | (std::signbit(value) ? 0x80 : 0))};
}

}  // namespace

void QuantiseRows(Context&, ConstTensorView input, TensorView codes, TensorView scales) {
  ForEachIndex(LeadingAxes(input.shape()), [&](const Shape& row) {
    const int64_t width = input.dim(2), at = row[0] * input.dim(1) + row[1];
    double largest = 0;
    bool is_finite = true;
    for (int64_t k = 0; k < width; ++k) {
      const double value = Get(input, With(row, k));
      is_finite = is_finite && std::isfinite(value);
      largest = std::max(largest, std::abs(value));
    }
    double scale = 0x1p-100;
    while (is_finite && largest > 448 * scale) scale *= 2;
    for (int64_t k = 0; k < width; ++k) {
      codes.data<Float8E4M3>()[at * width + k] =
          is_finite ? Nearest(Get(input, With(row, k)) / scale) : Float8E4M3{0};
    }
    scales.data<float>()[at] =
        is_finite ? static_cast<float>(scale) : std::numeric_limits<float>::quiet_NaN();
  });
}

}  // namespace tamias::reference
