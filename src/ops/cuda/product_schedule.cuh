// Which tile of a product a block computes. Units (128 tokens of one group) of a band come first,
// then tiles along the other axis, then bands: blocks that run at one time use the same rows of the
// weights, which so come from the L2 cache, and the band's own operand stays there.
#pragma once

#include <cstdint>

#include "base/cuda/runtime.cuh"

namespace tamias::cuda {

struct ProductSchedule {
  int64_t units, tiles;  // blocks() is at most INT32_MAX
  int64_t band = 32;     // units

  constexpr int64_t blocks() const { return units * tiles; }

  struct Place {
    int64_t unit, tile;
  };
  // In 32 bits: a division of 64 is a call, which would have the products on the tensor cores of
  // compute capability 9.0 wait for each other.
  __device__ Place Of(int64_t block) const {
    const auto index = static_cast<uint32_t>(block);
    const auto whole_band = static_cast<uint32_t>(min(band, units));
    const uint32_t band_blocks = whole_band * static_cast<uint32_t>(tiles);
    const uint32_t first = index / band_blocks * whole_band, rest = index % band_blocks;
    const uint32_t width = min(whole_band, static_cast<uint32_t>(units) - first);
    return {first + rest % width, rest / width};
  }
};

}  // namespace tamias::cuda
