// A film in memory.
#pragma once

#include <vector>

#include "tamias/image.h"

namespace tamias {

struct Video {
  double fps = 0;             // frames per second
  std::vector<Image> frames;  // all of one size
};

}  // namespace tamias
