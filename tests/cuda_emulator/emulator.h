// CUDA's names on the CPU, for tests without a GPU: what a kernel uses of the language and the
// runtime, served by fibers (block.h). Kernels compiled against this header run thread by thread
// and show wrong indices, layouts, tails, barriers and waits; neither speed nor PTX is emulated.
// Includes no CUDA header: a machine without the toolkit builds and runs it.
//   blocks                 run one after another, those of a cluster together
//   __shared__ variables   are per block; kernels in clusters have none. Kernels declare them, not
//                          the functions they call: the emulator counts a kernel's (symbols.h)
//   dynamic shared memory  is filled with NaN before each block, writes behind it are an error
//   misaligned accesses    are errors, vectors and scalars alike (alignment.cc)
//   device memory          is host memory filled with NaN, writes around it are an error, and so is
//                          what a queue of another device does with it (device.h), but for copies
//                          that name both devices
//   streams                are synchronous, unless a test lets them run in any order that their
//                          events allow (streams.h)
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tests/cuda_emulator/block.h"
#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/streams.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __shared__ static thread_local

// ---- vector types -----------------------------------------------------------------------------
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// ---- barriers and warp collectives --------------------------------------------------------------
inline void __syncthreads() { tamias::cuda_emulator::Barrier("__syncthreads", 0); }
inline int __syncthreads_count(int predicate) {
  return tamias::cuda_emulator::Barrier("__syncthreads_count", predicate);
}
inline int __syncthreads_or(int predicate) {
  return tamias::cuda_emulator::Barrier("__syncthreads_or", predicate) != 0;
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { tamias::cuda_emulator::SyncWarp(mask); }

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const int lane = tamias::cuda_emulator::Lane();
  return tamias::cuda_emulator::Shuffle(mask, value, (lane / width * width) + source % width);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
  const int lane = tamias::cuda_emulator::Lane(), from = lane ^ bits;
  return tamias::cuda_emulator::Shuffle(mask, value, from / width > lane / width ? lane : from);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = tamias::cuda_emulator::Lane(), from = lane - static_cast<int>(delta);
  return tamias::cuda_emulator::Shuffle(mask, value, from < lane / width * width ? lane : from);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const int lane = tamias::cuda_emulator::Lane(), from = lane + static_cast<int>(delta);
  return tamias::cuda_emulator::Shuffle(mask, value,
                                        from >= (lane / width + 1) * width ? lane : from);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return tamias::cuda_emulator::Ballot(mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) {
  return tamias::cuda_emulator::Ballot(mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return tamias::cuda_emulator::Ballot(mask, predicate != 0) == mask;
}

// ---- memory -------------------------------------------------------------------------------------
template <typename T>
T __ldg(const T* address) {
  return *address;
}
// Loads and stores past the first-level cache, of which there is none.
template <typename T>
T __ldcs(const T* address) {
  return *address;
}
template <typename T>
void __stcs(T* address, std::type_identity_t<T> value) {
  *address = value;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
// One block runs at a time, and a thread is not interrupted between barriers: plain arithmetic.
template <typename T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, *address + value);
}
template <typename T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, std::max(*address, value));
}
template <typename T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, std::min(*address, value));
}
template <typename T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, *address | value);
}
template <typename T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  return std::exchange(*address, value);
}

// ---- arithmetic ---------------------------------------------------------------------------------
using std::isinf;
using std::isnan;
using std::max;
using std::min;
inline int __popc(unsigned value) { return std::popcount(value); }
inline int __popcll(unsigned long long value) { return std::popcount(value); }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
inline int __ffs(int value) {
  return value == 0 ? 0 : std::countr_zero(static_cast<unsigned>(value)) + 1;
}
inline unsigned __float_as_uint(float value) { return std::bit_cast<unsigned>(value); }
inline float __uint_as_float(unsigned value) { return std::bit_cast<float>(value); }
inline int __float_as_int(float value) { return std::bit_cast<int>(value); }
inline float __int_as_float(int value) { return std::bit_cast<float>(value); }
inline float __expf(float value) { return std::exp(value); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float value) { return 1.0f / std::sqrt(value); }

// ---- runtime ------------------------------------------------------------------------------------
using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorPeerAccessAlreadyEnabled = 704
};
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0;
struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem, sharedMemPerBlockOptin;
};
// As far as the emulator knows them: launch bounds and registers are the compiler's affair.
struct cudaFuncAttributes {
  size_t sharedSizeBytes;  // static
  int maxThreadsPerBlock, numRegs, maxDynamicSharedSizeBytes;
};
struct cudaPitchedPtr {
  void* ptr;
  size_t pitch, xsize, ysize;
};
struct cudaExtent {
  size_t width, height, depth;
};
struct cudaMemcpy3DPeerParms {
  cudaPitchedPtr srcPtr, dstPtr;
  int srcDevice, dstDevice;
  cudaExtent extent;
};
inline cudaPitchedPtr make_cudaPitchedPtr(void* ptr, size_t pitch, size_t width, size_t height) {
  return {ptr, pitch, width, height};
}
inline cudaExtent make_cudaExtent(size_t width, size_t height, size_t depth) {
  return {width, height, depth};
}

const char* cudaGetErrorString(cudaError_t status);
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel);
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMalloc(void** memory, size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned flags);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t);
cudaError_t cudaMemcpy3DPeerAsync(const cudaMemcpy3DPeerParms* copy, cudaStream_t stream);
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer);
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventDestroy(cudaEvent_t event);
