// The part of the CUDA runtime that Tamias uses, on host memory. An allocation lies between two
// guards of NaN: reading there gives NaN, having written there ends the program when it is freed.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/emulator.h"

namespace {

constexpr size_t kGuard = 1024;  // also keeps the allocation 256-byte aligned
constexpr int kNaNByte = 0xFF;

std::mutex mutex;
std::map<void*, size_t> sizes;  // of live allocations
size_t allocated = 0, peak = 0;

bool IsIntact(const unsigned char* guard) {
  return std::all_of(guard, guard + kGuard, [](unsigned char byte) { return byte == kNaNByte; });
}

}  // namespace

namespace tamias::cuda_emulator {

size_t AllocatedBytes() {
  const std::lock_guard lock(mutex);
  return allocated;
}

size_t PeakBytes() {
  const std::lock_guard lock(mutex);
  return peak;
}

void ResetPeak() {
  const std::lock_guard lock(mutex);
  peak = allocated;
}

}  // namespace tamias::cuda_emulator

const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidValue; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const int capability = tamias::cuda_emulator::ComputeCapability();
  *properties = {.name = "emulator",
                 .major = capability / 10,
                 .minor = capability % 10,
                 .multiProcessorCount = 4,
                 .totalGlobalMem = size_t{1} << 30,
                 .sharedMemPerBlockOptin = tamias::cuda_emulator::SharedBytesOptIn()};
  return device == 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const size_t rounded = (bytes + 2 * kGuard + 255) / 256 * 256;
  auto* storage = static_cast<unsigned char*>(std::aligned_alloc(256, rounded));
  if (storage == nullptr) return cudaErrorMemoryAllocation;
  std::memset(storage, kNaNByte, rounded);
  *memory = storage + kGuard;
  const std::lock_guard lock(mutex);
  sizes[*memory] = bytes;
  allocated += bytes;
  peak = std::max(peak, allocated);
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  tamias::cuda_emulator::FinishAll();  // as a GPU does
  size_t bytes = 0;
  {
    const std::lock_guard lock(mutex);
    const auto found = sizes.find(memory);
    if (found == sizes.end()) return cudaErrorInvalidValue;
    bytes = found->second;
    sizes.erase(found);
    allocated -= bytes;
  }
  auto* begin = static_cast<unsigned char*>(memory);
  if (!IsIntact(begin - kGuard) || !IsIntact(begin + bytes)) {
    std::fprintf(stderr, "emulator: written outside an allocation of %zu bytes\n", bytes);
    std::abort();
  }
  std::free(begin - kGuard);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* memory) {
  tamias::cuda_emulator::FinishAll();
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  tamias::cuda_emulator::Enqueue(stream, "memcpy", [=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  tamias::cuda_emulator::Enqueue(stream, "memset", [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
