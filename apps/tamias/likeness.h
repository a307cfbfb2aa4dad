// How alike an accelerated result is to the dense one. A picture counts as a film of one frame.
#pragma once

#include <vector>

#include "tamias/pipeline.h"

namespace tamias::cli {

// PSNR in dB (of equal frames 99) and SSIM.
struct Likeness {
  std::vector<std::vector<FrameLikeness>> films;  // of each frame
  double psnr = 0;                                // means over all frames of all films
  double ssim = 0;
  double worst_psnr = 0;  // of the film with the smallest mean
};

// Throws when pictures of this size are too small to compare: SSIM's window has 11 pixels a side.
void CheckSsimSize(int width, int height);

// Moves the pictures or films out of a result.
std::vector<Video> TakeFilms(GenerateResult& result);

// As many films in both, of the same sizes.
Likeness Compare(const std::vector<Video>& dense, const std::vector<Video>& accelerated);

}  // namespace tamias::cli
