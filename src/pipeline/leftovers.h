// What generations before have left in memory and a plan does not count.
#pragma once

#include <cstddef>
#include <vector>

namespace tamias {

struct Leftovers {
  size_t host_bytes = 0;
  std::vector<size_t> device_bytes;  // of the plan's devices
};

}  // namespace tamias
