// What the kernels multiply bf16 with.
#pragma once

#include <cstdint>

namespace tamias::cpu {

// True where the processor has AVX-512 BF16 and Highway's AVX-512 code is what runs.
bool MultipliesBFloat16();

enum class Multiplier : uint8_t {
  kFloats,  // widened to fp32 first
  kPairs,   // of AVX-512 BF16
  kTiles,   // of AMX
};

// The best there is for rows of so many elements: tiles take whole ones only.
Multiplier BFloat16Multiplier(int64_t row_length);

}  // namespace tamias::cpu
