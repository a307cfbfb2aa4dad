// How alike the results of two generations are: pictures or films by PSNR and SSIM, latents by
// their relative error. A picture counts as a film of one frame.
//
//   tamias::GenerateResult dense = pipeline.Generate(dense_options);
//   tamias::GenerateResult fast = pipeline.Generate(fast_options);
//   const double error = tamias::RelativeL2(fast.latents, dense.latents);
//   const auto likeness = tamias::CompareFilms(tamias::TakeFilms(dense), tamias::TakeFilms(fast));
//   std::cout << likeness.psnr << " dB, SSIM " << likeness.ssim << '\n';
#pragma once

#include <vector>

#include "tamias/pipeline.h"

namespace tamias {

// PSNR in dB (of equal frames 99) and SSIM.
struct Likeness {
  std::vector<std::vector<FrameLikeness>> films;  // of each frame
  double psnr = 0;                                // means over all frames of all films
  double ssim = 0;
  double worst_psnr = 0;  // of the film with the smallest mean
};

// Psnr and Ssim of each frame of `found` with the same frame of `expected`. Throws kInvalidArgument
// when there are none, when the films differ in number, frames or size, and for sizes that
// CheckComparable refuses.
Likeness CompareFilms(const std::vector<Video>& found, const std::vector<Video>& expected);

// Throws kInvalidArgument for pictures that are too small to compare, before there are any: SSIM's
// window has 11 pixels a side.
void CheckComparable(int width, int height);

// Moves the pictures or films out of a result.
std::vector<Video> TakeFilms(GenerateResult& result);

// |found - expected| / |expected| over the values of one picture or film, mean over all of them.
// Throws kInvalidArgument when there are none, or when they differ in number or size.
double RelativeL2(const std::vector<Latents>& found, const std::vector<Latents>& expected);

}  // namespace tamias
