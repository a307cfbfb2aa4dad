// PSNR (dB, 99 where nothing differs) and SSIM, means over all frames of all films, and the mean
// PSNR of the worst film.
#include "likeness.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"

namespace tamias::cli {

void CheckSsimSize(int width, int height) {
  constexpr int kSmallestSide = 11;
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

Likeness Compare(const std::vector<Video>& dense, const std::vector<Video>& accelerated) {
  constexpr double kEqual = 99;
  Likeness likeness;
  likeness.worst_psnr = std::numeric_limits<double>::infinity();
  size_t count = 0;
  for (size_t i = 0; i < dense.size(); ++i) {
    std::vector<FrameLikeness>& frames =
        likeness.films.emplace_back(CompareVideos(dense[i], accelerated[i]));
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

}  // namespace tamias::cli
