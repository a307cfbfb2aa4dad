// The products of a warpgroup in PTX: see primitives_sm90a.cuh. An instruction names each of its
// N / 2 sums, so that the text and the operands of N = 64, 128 and 256 are put together by macros.
#pragma once

#include <type_traits>

#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

__device__ __forceinline__ void WgmmaFence() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int kGroupsLeft>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kGroupsLeft) : "memory");
}

// %T0, %T1, ... %T9: ten operands whose numbers begin with T. Those of 32, 64 and 128 sums:
#define TAMIAS_TEN(T)                                                                    \
  "%" #T "0, %" #T "1, %" #T "2, %" #T "3, %" #T "4, %" #T "5, %" #T "6, %" #T "7, %" #T \
  "8, "                                                                                  \
  "%" #T "9, "
#define TAMIAS_THIRTY TAMIAS_TEN() TAMIAS_TEN(1) TAMIAS_TEN(2)
#define TAMIAS_SIXTY TAMIAS_THIRTY TAMIAS_TEN(3) TAMIAS_TEN(4) TAMIAS_TEN(5)
#define TAMIAS_NINETY TAMIAS_SIXTY TAMIAS_TEN(6) TAMIAS_TEN(7) TAMIAS_TEN(8)
#define TAMIAS_HUNDRED_AND_TWENTY TAMIAS_NINETY TAMIAS_TEN(9) TAMIAS_TEN(10) TAMIAS_TEN(11)
#define TAMIAS_NAMES_64 TAMIAS_THIRTY "%30, %31"
#define TAMIAS_NAMES_128 TAMIAS_SIXTY "%60, %61, %62, %63"
#define TAMIAS_NAMES_256 TAMIAS_HUNDRED_AND_TWENTY "%120, %121, %122, %123, %124, %125, %126, %127"

#define TAMIAS_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define TAMIAS_SUMS_16(i) \
  TAMIAS_SUMS_4(i), TAMIAS_SUMS_4(i + 4), TAMIAS_SUMS_4(i + 8), TAMIAS_SUMS_4(i + 12)
#define TAMIAS_SUMS_64 TAMIAS_SUMS_16(0), TAMIAS_SUMS_16(16)
#define TAMIAS_SUMS_128 TAMIAS_SUMS_64, TAMIAS_SUMS_16(32), TAMIAS_SUMS_16(48)
#define TAMIAS_SUMS_256 \
  TAMIAS_SUMS_128, TAMIAS_SUMS_16(64), TAMIAS_SUMS_16(80), TAMIAS_SUMS_16(96), TAMIAS_SUMS_16(112)

// One product; `accumulate` becomes the predicate that adds to the sums. A0, A1, ... are the
// numbers of the operands behind the sums.
#define TAMIAS_WGMMA_SHARED(N, TYPE, A0, A1, A2, A3, A4)                                           \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %" #A2                                      \
               ", 0;\n"                                                                            \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE                     \
               " {" TAMIAS_NAMES_##N "}, %" #A0 ", %" #A1 ", adds, 1, 1, %" #A3 ", %" #A4 ";\n}\n" \
               : TAMIAS_SUMS_##N                                                                   \
               : "l"(a), "l"(b), "r"(accumulate ? 1 : 0), "n"(kAcrossA), "n"(kAcrossB))
#define TAMIAS_WGMMA_REGISTERS(N, TYPE, A0, A1, A2, A3, A4, A5, A6)                           \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %" #A5                                 \
               ", 0;\n"                                                                       \
               "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE                \
               " {" TAMIAS_NAMES_##N "}, {%" #A0 ", %" #A1 ", %" #A2 ", %" #A3 "}, %" #A4     \
                                     ", adds, 1, 1, %" #A6 ";\n}\n"                           \
               : TAMIAS_SUMS_##N                                                              \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate ? 1 : 0), \
                 "n"(kAcrossB))

#define TAMIAS_WGMMA_FLOAT8(N, A0, A1, A2)                                     \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, %" #A2                  \
               ", 0;\n"                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #N                          \
               "k32.f32.e4m3.e4m3"                                             \
               " {" TAMIAS_NAMES_##N "}, %" #A0 ", %" #A1 ", adds, 1, 1;\n}\n" \
               : TAMIAS_SUMS_##N                                               \
               : "l"(a), "l"(b), "r"(accumulate ? 1 : 0))

template <typename T, int kColumns, OperandLayout kLayoutA, OperandLayout kLayoutB>
__device__ __forceinline__ void WgmmaFromShared(float (&d)[kColumns / 2], uint64_t a, uint64_t b,
                                                bool accumulate) {
  constexpr int kAcrossA = kLayoutA == OperandLayout::kAcrossDepth ? 1 : 0;
  constexpr int kAcrossB = kLayoutB == OperandLayout::kAcrossDepth ? 1 : 0;
  constexpr bool kBf16 = std::is_same_v<T, BFloat16>;
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 256);
  if constexpr (std::is_same_v<T, Float8E4M3>) {
    static_assert(kAcrossA == 0 && kAcrossB == 0);  // there is no other
    if constexpr (kColumns == 64) {
      TAMIAS_WGMMA_FLOAT8(64, 32, 33, 34);
    } else if constexpr (kColumns == 128) {
      TAMIAS_WGMMA_FLOAT8(128, 64, 65, 66);
    } else {
      TAMIAS_WGMMA_FLOAT8(256, 128, 129, 130);
    }
  } else if constexpr (kColumns == 64 && kBf16) {
    TAMIAS_WGMMA_SHARED(64, "bf16", 32, 33, 34, 35, 36);
  } else if constexpr (kColumns == 64) {
    TAMIAS_WGMMA_SHARED(64, "f16", 32, 33, 34, 35, 36);
  } else if constexpr (kColumns == 128 && kBf16) {
    TAMIAS_WGMMA_SHARED(128, "bf16", 64, 65, 66, 67, 68);
  } else if constexpr (kColumns == 128) {
    TAMIAS_WGMMA_SHARED(128, "f16", 64, 65, 66, 67, 68);
  } else if constexpr (kBf16) {
    TAMIAS_WGMMA_SHARED(256, "bf16", 128, 129, 130, 131, 132);
  } else {
    TAMIAS_WGMMA_SHARED(256, "f16", 128, 129, 130, 131, 132);
  }
}

template <typename T, int kColumns, OperandLayout kLayoutB>
__device__ __forceinline__ void WgmmaFromRegisters(float (&d)[kColumns / 2], const uint32_t (&a)[4],
                                                   uint64_t b, bool accumulate) {
  constexpr int kAcrossB = kLayoutB == OperandLayout::kAcrossDepth ? 1 : 0;
  constexpr bool kBf16 = std::is_same_v<T, BFloat16>;
  static_assert(kColumns == 64 || kColumns == 128 || kColumns == 256);
  if constexpr (kColumns == 64 && kBf16) {
    TAMIAS_WGMMA_REGISTERS(64, "bf16", 32, 33, 34, 35, 36, 37, 38);
  } else if constexpr (kColumns == 64) {
    TAMIAS_WGMMA_REGISTERS(64, "f16", 32, 33, 34, 35, 36, 37, 38);
  } else if constexpr (kColumns == 128 && kBf16) {
    TAMIAS_WGMMA_REGISTERS(128, "bf16", 64, 65, 66, 67, 68, 69, 70);
  } else if constexpr (kColumns == 128) {
    TAMIAS_WGMMA_REGISTERS(128, "f16", 64, 65, 66, 67, 68, 69, 70);
  } else if constexpr (kBf16) {
    TAMIAS_WGMMA_REGISTERS(256, "bf16", 128, 129, 130, 131, 132, 133, 134);
  } else {
    TAMIAS_WGMMA_REGISTERS(256, "f16", 128, 129, 130, 131, 132, 133, 134);
  }
}

#undef TAMIAS_WGMMA_REGISTERS
#undef TAMIAS_WGMMA_FLOAT8
#undef TAMIAS_WGMMA_SHARED
#undef TAMIAS_SUMS_256
#undef TAMIAS_SUMS_128
#undef TAMIAS_SUMS_64
#undef TAMIAS_SUMS_16
#undef TAMIAS_SUMS_4
#undef TAMIAS_NAMES_256
#undef TAMIAS_NAMES_128
#undef TAMIAS_NAMES_64
#undef TAMIAS_HUNDRED_AND_TWENTY
#undef TAMIAS_NINETY
#undef TAMIAS_SIXTY
#undef TAMIAS_THIRTY
#undef TAMIAS_TEN

}  // namespace tamias::cuda
