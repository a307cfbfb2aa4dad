// The tiles are a property of machine and system (base/machine.h); Highway's choice counts as in
// bfloat16.cc.
#include "ops/cpu/tiles.h"

#include <hwy/targets.h>

#include "base/machine.h"

namespace tamias::cpu {

bool MultipliesInTiles() { return HasBFloat16Tiles() && (hwy::SupportedTargets() & HWY_AVX3) != 0; }

}  // namespace tamias::cpu
