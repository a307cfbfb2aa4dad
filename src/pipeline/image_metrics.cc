// PSNR and SSIM between two pictures (Wang, Bovik, Sheikh, Simoncelli 2004, equations 12 and 13),
// and between the frames of two films.
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "tamias/image.h"
#include "tamias/video.h"

namespace tamias {
namespace {

constexpr int kWindow = 11;
constexpr double kSigma = 1.5;
constexpr double kC1 = (0.01 * 255) * (0.01 * 255);
constexpr double kC2 = (0.03 * 255) * (0.03 * 255);

void CheckSameSize(const Image& a, const Image& b) {
  if (a.width != b.width || a.height != b.height || a.rgb.size() != b.rgb.size()) {
    Fail(ErrorCode::kInvalidArgument, "pictures of {}x{} and {}x{} pixels cannot be compared",
         a.width, a.height, b.width, b.height);
  }
}

struct Plane {
  int width = 0;
  int height = 0;
  std::vector<double> values;
};

// ITU-R BT.601 luma.
Plane Luma(const Image& image) {
  Plane plane{image.width, image.height, {}};
  plane.values.resize(image.rgb.size() / 3);
  for (size_t i = 0; i < plane.values.size(); ++i) {
    const uint8_t* pixel = &image.rgb[3 * i];
    plane.values[i] = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
  }
  return plane;
}

std::array<double, kWindow> GaussianWindow() {
  std::array<double, kWindow> window{};
  double sum = 0;
  for (int i = 0; i < kWindow; ++i) {
    const double x = i - kWindow / 2;
    window[static_cast<size_t>(i)] = std::exp(-x * x / (2 * kSigma * kSigma));
    sum += window[static_cast<size_t>(i)];
  }
  for (double& weight : window) weight /= sum;
  return window;
}

// Separable Gaussian mean over all windows that lie inside.
Plane Smooth(const Plane& plane) {
  static const std::array<double, kWindow> window = GaussianWindow();
  Plane rows{plane.width - kWindow + 1, plane.height, {}};
  rows.values.assign(static_cast<size_t>(rows.width) * rows.height, 0);
  for (int y = 0; y < rows.height; ++y) {
    for (int x = 0; x < rows.width; ++x) {
      double sum = 0;
      for (int i = 0; i < kWindow; ++i) {
        sum += window[static_cast<size_t>(i)] *
               plane.values[static_cast<size_t>(y) * plane.width + x + i];
      }
      rows.values[static_cast<size_t>(y) * rows.width + x] = sum;
    }
  }
  Plane result{rows.width, plane.height - kWindow + 1, {}};
  result.values.assign(static_cast<size_t>(result.width) * result.height, 0);
  for (int y = 0; y < result.height; ++y) {
    for (int i = 0; i < kWindow; ++i) {
      const double weight = window[static_cast<size_t>(i)];
      const double* source = &rows.values[static_cast<size_t>(y + i) * rows.width];
      double* sum = &result.values[static_cast<size_t>(y) * result.width];
      for (int x = 0; x < result.width; ++x) sum[x] += weight * source[x];
    }
  }
  return result;
}

Plane Product(const Plane& a, const Plane& b) {
  Plane product = a;
  for (size_t i = 0; i < product.values.size(); ++i) product.values[i] *= b.values[i];
  return product;
}

}  // namespace

double Psnr(const Image& a, const Image& b) {
  CheckSameSize(a, b);
  double sum = 0;
  for (size_t i = 0; i < a.rgb.size(); ++i) {
    const double difference = double{1} * a.rgb[i] - b.rgb[i];
    sum += difference * difference;
  }
  if (sum == 0) return std::numeric_limits<double>::infinity();
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.rgb.size()) / sum);
}

double Ssim(const Image& a, const Image& b) {
  CheckSameSize(a, b);
  if (a.width < kWindow || a.height < kWindow) {
    Fail(ErrorCode::kInvalidArgument,
         "SSIM needs pictures of at least {0}x{0} pixels, found {1}x{2}", kWindow, a.width,
         a.height);
  }
  const Plane x = Luma(a);
  const Plane y = Luma(b);
  const Plane mean_x = Smooth(x);
  const Plane mean_y = Smooth(y);
  const Plane xx = Smooth(Product(x, x));
  const Plane yy = Smooth(Product(y, y));
  const Plane xy = Smooth(Product(x, y));
  double sum = 0;
  for (size_t i = 0; i < mean_x.values.size(); ++i) {
    const double mx = mean_x.values[i];
    const double my = mean_y.values[i];
    const double variance_x = xx.values[i] - mx * mx;
    const double variance_y = yy.values[i] - my * my;
    const double covariance = xy.values[i] - mx * my;
    sum += (2 * mx * my + kC1) * (2 * covariance + kC2) /
           ((mx * mx + my * my + kC1) * (variance_x + variance_y + kC2));
  }
  return sum / static_cast<double>(mean_x.values.size());
}

std::vector<FrameLikeness> CompareVideos(const Video& a, const Video& b) {
  if (a.frames.size() != b.frames.size()) {
    Fail(ErrorCode::kInvalidArgument, "films of {} and {} frames cannot be compared",
         a.frames.size(), b.frames.size());
  }
  std::vector<FrameLikeness> likeness;
  for (size_t i = 0; i < a.frames.size(); ++i) {
    likeness.push_back({Psnr(a.frames[i], b.frames[i]), Ssim(a.frames[i], b.frames[i])});
  }
  return likeness;
}

}  // namespace tamias
