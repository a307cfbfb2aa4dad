// What kernels of compute capability 9.0a need of PTX beyond primitives.cuh, one small function
// each. A warpgroup is four warps, 128 threads from a multiple of 128 on.
//
// mbarriers, 8 bytes of shared memory each. Their phases complete one after another, each when all
// expected arrivals and bytes are there; parity is that of the phase's number, 0, 1, 0, ...
//   MbarrierInit(barrier, arrivals)       by one thread, which then calls FenceMbarrierInit; the
//                                         others use it after a barrier of the block
//   MbarrierArrive(barrier)               one arrival
//   MbarrierArriveExpect(barrier, bytes)  one arrival, and the phase lasts until CopyBulk has
//                                         brought so many bytes more
//   MbarrierArriveCopies(barrier)         one arrival, when all CpAsync16 of this thread so far
//                                         have landed
//   MbarrierWait(barrier, parity)         until the phase of this parity is complete; parity 1 is
//                                         from the start
//   CopyBulk(shared, global, bytes, barrier)  a multiple of 16 bytes, by one thread
//   FenceAsyncProxy()                     what this thread wrote or has seen written in shared
//                                         memory is there for the products and copies it starts
//                                         next, and for those of threads that it then lets go on
//   StoreOperand(shared, word)            a store of what products will read
// Groups of warps:
//   NamedBarrierSync(id, threads)         waits until so many threads are at barrier id, 1 to 15
//   NamedBarrierArrive(id, threads)       counts there without waiting
//   RegistersUp<n>(), RegistersDown<n>()  a warpgroup's registers per thread from here on
// Products d (+)= A B of a warpgroup, d fp32 [64, N], A [64, 16], B [16, N], N = 64, 128 or 256:
//   WgmmaFromShared<T, N, A is, B is>(d, a, b, accumulate)     a, b: descriptors
//                                         T: bf16, f16, or fp8_e4m3, which lies along the
//                                         contraction, in pairs where this file says 16 bits: A
//                                         [64, 32], B [32, N]
//   WgmmaFromRegisters<T, N, B is>(d, a, b, accumulate)        a: as Mma16816's, of each warp
//                                         a lane's d are rows g (4 j, 4 j + 1) and g + 8 (4 j + 2,
//                                         4 j + 3) of its warp's 16, columns 8 j + 2 t and + 1
//   WgmmaFence()                          before the first product that uses registers which other
//                                         instructions have written
//   WgmmaCommit()                         closes a group of products
//   WgmmaWait<n>()                        until at most the n latest groups are in flight; of the
//                                         others d may then be read, and operands overwritten
// Operands in shared memory are blocks of 64 columns of 16 bits: rows of 128 bytes, any number of
// them, from a multiple of 1,024 bytes on, piece c of 16 bytes of row r at c xor (r mod 8)
// (OperandOffset). The rows are those of A, columns of B (kAlongDepth: the contraction runs along
// the 64) or the contraction itself (kAcrossDepth).
//   DescribeAlongDepth(block)                  the first 16 of the contraction; for the next 16
//                                              Advance by 32 bytes; behind 64: the next block
//   DescribeAcrossDepth(block, block_bytes)    the first 16 rows; the next 16: Advance by 2,048
//                                              bytes. block_bytes: from one block to the next
#pragma once

#include <cstdint>

#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

enum class OperandLayout { kAlongDepth, kAcrossDepth };

constexpr uint32_t kOperandRowBytes = 128;
constexpr uint32_t kOperandAlignment = 1024;  // eight rows, after which the swizzle repeats

}  // namespace tamias::cuda

#ifdef TAMIAS_CUDA_EMULATION
#include "tests/cuda_emulator/primitives_sm90a.h"
#else
#include "ops/cuda/wgmma_sm90a.cuh"

namespace tamias::cuda {

__device__ __forceinline__ void MbarrierInit(uint64_t* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(SharedAddress(barrier)),
               "r"(arrivals)
               : "memory");
}
__device__ __forceinline__ void FenceMbarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
__device__ __forceinline__ void MbarrierArrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(SharedAddress(barrier))
               : "memory");
}
__device__ __forceinline__ void MbarrierArriveExpect(uint64_t* barrier, uint32_t bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(SharedAddress(barrier)),
      "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void MbarrierArriveCopies(uint64_t* barrier) {
  asm volatile(
      "cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(SharedAddress(barrier))
      : "memory");
}
__device__ __forceinline__ void MbarrierWait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n.reg .pred complete;\n"
      "AGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 complete, [%0], %1;\n"
      "@!complete bra AGAIN;\n}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity)
      : "memory");
}

__device__ __forceinline__ void CopyBulk(void* shared, const void* global, uint32_t bytes,
                                         uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(SharedAddress(shared)),
      "l"(global), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}
__device__ __forceinline__ void FenceAsyncProxy() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
template <typename Word>
__device__ __forceinline__ void StoreOperand(void* shared, const Word& word) {
  *static_cast<Word*>(shared) = word;
}

__device__ __forceinline__ void NamedBarrierSync(uint32_t id, uint32_t threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void NamedBarrierArrive(uint32_t id, uint32_t threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void RegistersUp() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void RegistersDown() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

}  // namespace tamias::cuda

#endif

namespace tamias::cuda {

// The place of piece `piece` (0 to 7) of a row in its block of 64 columns.
constexpr uint32_t OperandOffset(uint32_t row, uint32_t piece) {
  return row * kOperandRowBytes + (piece ^ row % 8) * 16;
}

// Descriptors of shared memory: bits 0 to 13 the address, 16 to 29 the leading and 32 to 45 the
// stride offset, each divided by 16; 62 and 63 the swizzle, 1 for 128 bytes. The stride is from
// eight rows to the next eight, the leading offset from 64 columns to the next 64 (not used along
// the contraction, where a product reads 16 columns).
__device__ __forceinline__ uint64_t DescribeAcrossDepth(const void* block, uint32_t block_bytes) {
  return (uint64_t{1} << 62) | (uint64_t{8 * kOperandRowBytes / 16} << 32) |
         (uint64_t{block_bytes / 16} << 16) | (SharedAddress(block) & 0x3FFFF) / 16;
}
__device__ __forceinline__ uint64_t DescribeAlongDepth(const void* block) {
  return DescribeAcrossDepth(block, 0);
}
__device__ __forceinline__ uint64_t Advance(uint64_t descriptor, uint32_t bytes) {
  return descriptor + bytes / 16;
}

}  // namespace tamias::cuda
