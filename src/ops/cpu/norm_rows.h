// The norms of one row, compiled for each instruction set and chosen at run time: what operations
// that norm rows among other things are made of.
#pragma once

#include <cstddef>

#include "ops/cpu/elements.h"

namespace tamias::cpu {

// output = (x - mean) / sqrt(variance + epsilon) * gain + offset.
void LayerNormRow(ConstElements input, size_t count, float epsilon, const float* gain,
                  const float* offset, Elements output);
// output = x / sqrt(mean(x^2) + epsilon) * gain.
void RmsNormRow(ConstElements input, size_t count, float epsilon, const float* gain,
                Elements output);

}  // namespace tamias::cpu
