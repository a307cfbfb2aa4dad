// Resampling of pictures as Pillow up to version 12 does it, byte by byte the same: separable
// filters that widen when the picture shrinks, first along rows, then along columns, rounded to
// bytes after each. Pillow 13 takes the columns first where that is less work.
#pragma once

#include "tamias/image.h"

namespace tamias {

enum class ResizeFilter {
  kBicubic,  // Keys 1981 with a = -0.5, two pixels to each side
  kLanczos,  // sinc(x) sinc(x / 3), three pixels to each side
};

// image: sides of at least 1; width, height: pixels, at least 1.
Image ResizeImage(const Image& image, int width, int height, ResizeFilter filter);

}  // namespace tamias
