// Means of PSNR (99 where nothing differs) and SSIM over all frames of all films, and the mean PSNR
// of the worst film.
#include "tamias/likeness.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/check.h"

namespace tamias {
namespace {

constexpr double kEqual = 99;  // dB
constexpr int kSmallestSide = 11;

void CheckCounts(const char* what, size_t found, size_t expected) {
  if (found == expected && found > 0) return;
  Fail(ErrorCode::kInvalidArgument, "{}: expected as many in both, at least one, found {} and {}",
       what, found, expected);
}

double RelativeL2(const Latents& found, const Latents& expected) {
  CheckCounts("latents: values", found.values.size(), expected.values.size());
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const double difference = double{found.values[i]} - expected.values[i];
    error += difference * difference;
    norm += double{expected.values[i]} * expected.values[i];
  }
  return std::sqrt(error / norm);
}

}  // namespace

void CheckComparable(int width, int height) {
  if (std::min(width, height) < kSmallestSide) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: {}x{} pixels are too small to compare: SSIM needs {} a side",
         width < kSmallestSide ? "width" : "height", width, height, kSmallestSide);
  }
}

std::vector<Video> TakeFilms(GenerateResult& result) {
  std::vector<Video> films = std::move(result.videos);
  for (Image& image : result.images) films.push_back({0, {std::move(image)}});
  return films;
}

Likeness CompareFilms(const std::vector<Video>& found, const std::vector<Video>& expected) {
  CheckCounts("films", found.size(), expected.size());
  Likeness likeness;
  likeness.worst_psnr = std::numeric_limits<double>::infinity();
  size_t count = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    CheckCounts("frames", found[i].frames.size(), expected[i].frames.size());
    std::vector<FrameLikeness>& frames =
        likeness.films.emplace_back(CompareVideos(expected[i], found[i]));
    double film_psnr = 0;
    for (FrameLikeness& frame : frames) {
      frame.psnr = std::min(kEqual, frame.psnr);
      film_psnr += frame.psnr;
      likeness.ssim += frame.ssim;
    }
    likeness.psnr += film_psnr;
    likeness.worst_psnr =
        std::min(likeness.worst_psnr, film_psnr / static_cast<double>(frames.size()));
    count += frames.size();
  }
  likeness.psnr /= static_cast<double>(count);
  likeness.ssim /= static_cast<double>(count);
  return likeness;
}

double RelativeL2(const std::vector<Latents>& found, const std::vector<Latents>& expected) {
  CheckCounts("latents", found.size(), expected.size());
  double sum = 0;
  for (size_t i = 0; i < found.size(); ++i) sum += RelativeL2(found[i], expected[i]);
  return sum / static_cast<double>(found.size());
}

}  // namespace tamias
