// The instructions are a property of the processor (base/machine.h); Highway's choice counts
// because the kernels stand in its code for AVX-512.
#include "ops/cpu/bfloat16.h"

#include <hwy/targets.h>

#include "base/machine.h"
#include "ops/cpu/tiles.h"

namespace tamias::cpu {

bool MultipliesBFloat16() {
  return HasBFloat16Instructions() && (hwy::SupportedTargets() & HWY_AVX3) != 0;
}

Multiplier BFloat16Multiplier(int64_t row_length) {
  if (row_length % tiles::kDepth == 0 && MultipliesInTiles()) return Multiplier::kTiles;
  return MultipliesBFloat16() ? Multiplier::kPairs : Multiplier::kFloats;
}

}  // namespace tamias::cpu
