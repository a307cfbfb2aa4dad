// Permitted ranges of numbers in configuration files; both ends are included.
#pragma once

#include <cstdint>
#include <limits>

namespace tamias {

struct IntRange {
  int64_t min = std::numeric_limits<int64_t>::min();
  int64_t max = std::numeric_limits<int64_t>::max();
};

struct FloatRange {
  double min = std::numeric_limits<double>::lowest();
  double max = std::numeric_limits<double>::max();
};

}  // namespace tamias
