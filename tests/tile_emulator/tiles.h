// What tests ask the emulated tiles.
#pragma once

#include <cstdint>

namespace tamias::cpu::tiles {

// Products of two tiles since the program began.
int64_t ProductsSoFar();

}  // namespace tamias::cpu::tiles
