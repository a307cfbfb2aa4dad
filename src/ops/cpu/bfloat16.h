// Whether kernels multiply bf16 as bf16 (AVX-512 BF16), or widen it to fp32 first.
#pragma once

namespace tamias::cpu {

// True where the processor has the instructions and Highway's AVX-512 code is what runs.
bool MultipliesBFloat16();

}  // namespace tamias::cpu
