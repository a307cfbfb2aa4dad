// What kernels need of PTX (compute capability 8.0), one small function each. T is BFloat16 or
// Float16; a pair is two of them in 32 bits, the first in the low half. A lane is a thread of a
// warp; g = lane / 4 and t = lane % 4.
//   CpAsync16(shared, global, valid)  starts copying 16 bytes (zeros when not valid)
//   CpAsyncCommit()                   closes a group of copies of this thread
//   CpAsyncWait<n>()                  waits until at most the n latest groups are in flight; other
//                                     threads see the data after a barrier
//   LdMatrixX4(r, row)                four 8x8 matrices from shared memory; lane 8 m + i gives the
//                                     address of row i of matrix m; r[m] is the pair [g][2t, 2t+1]
//   LdMatrixX4Transposed(r, row)      the same, of the transposed matrices: [2t, 2t+1][g]
//   Mma16816<T>(d, a, b0, b1)         d += A B, A [16, 16], B [16, 8], d fp32 [16, 8]:
//                                     a: A[g][2t..], A[g+8][2t..], A[g][2t+8..], A[g+8][2t+8..];
//                                     b0, b1: B[2t, 2t+1][g], B[2t+8, 2t+9][g];
//                                     d: [g][2t], [g][2t+1], [g+8][2t], [g+8][2t+1]
//   PackPair<T>, UnpackPair<T>        fp32 to and from a pair, rounding to nearest even
//   Exp2, Log2                        fast, to about 2 ulp; Exp2(-inf) = 0, Log2(0) = -inf
#pragma once

#include <cstdint>

#include "base/cuda/runtime.cuh"
#include "tamias/dtype.h"

#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/primitives.h"
#else

namespace tamias::cuda {

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// .cg: through L2 only; tiles are read once per block.
__device__ __forceinline__ void CpAsync16(void* shared, const void* global, bool valid = true) {
  asm volatile(
      "cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(shared)),
      "l"(global), "r"(valid ? 16 : 0)
      : "memory");
}
__device__ __forceinline__ void CpAsyncCommit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int kGroupsLeft>
__device__ __forceinline__ void CpAsyncWait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroupsLeft) : "memory");
}

__device__ __forceinline__ void LdMatrixX4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}
__device__ __forceinline__ void LdMatrixX4Transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}

template <typename T>
__device__ void Mma16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ __forceinline__ void Mma16816<BFloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                   uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void Mma16816<Float16>(float (&d)[4], const uint32_t (&a)[4],
                                                  uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <typename T>
__device__ uint32_t PackPair(float low, float high);
template <>
__device__ __forceinline__ uint32_t PackPair<BFloat16>(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
template <>
__device__ __forceinline__ uint32_t PackPair<Float16>(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

template <typename T>
__device__ float2 UnpackPair(uint32_t pair);
template <>
__device__ __forceinline__ float2 UnpackPair<BFloat16>(uint32_t pair) {
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xFFFF0000u));
}
template <>
__device__ __forceinline__ float2 UnpackPair<Float16>(uint32_t pair) {
  float2 values;
  asm("{\n.reg .f16 low, high;\nmov.b32 {low, high}, %2;\n"
      "cvt.f32.f16 %0, low;\ncvt.f32.f16 %1, high;\n}\n"
      : "=f"(values.x), "=f"(values.y)
      : "r"(pair));
  return values;
}

__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float Log2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace tamias::cuda

#endif

namespace tamias::cuda {

constexpr unsigned kFullWarp = 0xFFFFFFFFu;

// Over the kLanes lanes (a power of two) that differ in the low bits; every lane gets the result.
template <int kLanes, typename T>
__device__ __forceinline__ T WarpSum(T value) {
#pragma unroll
  for (int bit = kLanes / 2; bit > 0; bit /= 2) value += __shfl_xor_sync(kFullWarp, value, bit);
  return value;
}
template <int kLanes, typename T>
__device__ __forceinline__ T WarpMax(T value) {
#pragma unroll
  for (int bit = kLanes / 2; bit > 0; bit /= 2) {
    const T other = __shfl_xor_sync(kFullWarp, value, bit);
    value = other > value ? other : value;
  }
  return value;
}

}  // namespace tamias::cuda
