// Resampling of pictures: see the header.
#include "io/resize_image.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/check.h"

namespace tamias {
namespace {

constexpr int kChannels = 3;
constexpr int kFractionBits = 22;  // of the weights: 8 bits of a byte and the sign fit beside them

double Bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

double Sinc(double x) {
  if (x == 0) return 1;
  x *= std::numbers::pi;
  return std::sin(x) / x;
}

double Lanczos(double x) { return -3 <= x && x < 3 ? Sinc(x) * Sinc(x / 3) : 0; }

struct Kernel {
  double (*value)(double x);
  double radius;
};

Kernel KernelOf(ResizeFilter filter) {
  return filter == ResizeFilter::kBicubic ? Kernel{Bicubic, 2} : Kernel{Lanczos, 3};
}

// What one output pixel takes of the input along one axis.
struct Taps {
  int begin = 0;
  std::vector<int32_t> weights;  // fixed point
};

std::vector<Taps> MakeTaps(int from, int to, const Kernel& kernel) {
  const double scale = static_cast<double>(from) / to;
  const double stretch = std::max(scale, 1.0);
  const double radius = kernel.radius * stretch;
  std::vector<Taps> all(static_cast<size_t>(to));
  for (int i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale;
    const int begin = std::max(0, static_cast<int>(center - radius + 0.5));
    const int end = std::min(from, static_cast<int>(center + radius + 0.5));
    std::vector<double> values;
    double sum = 0;
    for (int x = begin; x < end; ++x) {
      values.push_back(kernel.value((x - center + 0.5) / stretch));
      sum += values.back();
    }
    Taps& taps = all[static_cast<size_t>(i)];
    taps.begin = begin;
    for (const double value : values) {
      const double fixed = (sum != 0 ? value / sum : value) * (1 << kFractionBits);
      taps.weights.push_back(static_cast<int32_t>(fixed < 0 ? fixed - 0.5 : fixed + 0.5));
    }
  }
  return all;
}

// Bytes `step` apart, weighted.
uint8_t Weigh(const Taps& taps, const uint8_t* bytes, ptrdiff_t step) {
  int32_t sum = 1 << (kFractionBits - 1);
  for (const int32_t weight : taps.weights) {
    sum += weight * *bytes;
    bytes += step;
  }
  return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

Image ResizeRows(const Image& image, int width, const Kernel& kernel) {
  Image resized{width, image.height, {}};
  const std::vector<Taps> taps = MakeTaps(image.width, width, kernel);
  resized.rgb.reserve(static_cast<size_t>(width) * static_cast<size_t>(image.height) * kChannels);
  for (int64_t y = 0; y < image.height; ++y) {
    for (const Taps& pixel : taps) {
      const uint8_t* from = image.rgb.data() + (y * image.width + pixel.begin) * kChannels;
      for (int c = 0; c < kChannels; ++c) resized.rgb.push_back(Weigh(pixel, from + c, kChannels));
    }
  }
  return resized;
}

Image ResizeColumns(const Image& image, int height, const Kernel& kernel) {
  Image resized{image.width, height, {}};
  const std::vector<Taps> taps = MakeTaps(image.height, height, kernel);
  const ptrdiff_t stride = static_cast<ptrdiff_t>(image.width) * kChannels;
  resized.rgb.reserve(static_cast<size_t>(stride) * static_cast<size_t>(height));
  for (const Taps& row : taps) {
    const uint8_t* from = image.rgb.data() + row.begin * stride;
    for (ptrdiff_t x = 0; x < stride; ++x) resized.rgb.push_back(Weigh(row, from + x, stride));
  }
  return resized;
}

}  // namespace

Image ResizeImage(const Image& image, int width, int height, ResizeFilter filter) {
  TAMIAS_CHECK(image.width > 0 && image.height > 0 && width > 0 && height > 0);
  const Kernel kernel = KernelOf(filter);
  Image resized = width == image.width ? image : ResizeRows(image, width, kernel);
  return height == image.height ? resized : ResizeColumns(resized, height, kernel);
}

}  // namespace tamias
