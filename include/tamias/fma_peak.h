// The arithmetic peak of this machine, measured on the spot: the yardstick of every kernel.
#pragma once

namespace tamias {

// GFLOP/s (a fused multiply-add counts as two) of `threads` threads that run nothing but
// independent fp32 fused multiply-adds on the widest SIMD vectors available; the median of many
// short runs, about 0.2 s in all. What a kernel can reach depends on what else runs meanwhile:
// measure the peak and the kernel in turn.
double FmaPeakGflops(int threads);

// The instruction set that the kernels use on this machine, as Highway names it: "AVX3" (AVX-512),
// "AVX2", "SSE4", "NEON", ...
const char* SimdTargetName();

}  // namespace tamias
