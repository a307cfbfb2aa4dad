// The part of the CUDA runtime that Tamias uses, on host memory. An allocation lies between two
// guards of NaN: reading there gives NaN, having written there ends the program when it is freed.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/check.h"
#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/emulator.h"

namespace {

constexpr size_t kGuard = 1024;  // also keeps the allocation 256-byte aligned
constexpr int kNaNByte = 0xFF;

struct Allocation {
  size_t bytes = 0;
  int device = 0;
};
struct Count {
  size_t allocated = 0, peak = 0;
};

std::atomic<size_t> memory_of_others = 0;
std::atomic<size_t> pinned_given_out = 0;
std::mutex mutex;
std::map<uintptr_t, Allocation> allocations;  // that live, by their address
std::map<int, Count> counts;                  // by device
std::set<std::pair<int, int>> peers;          // devices that have access to others' memory

// Throws where the address is in memory of another device. The mutex must be locked.
void CheckAddress(int device, const char* action, const void* address) {
  const auto number = reinterpret_cast<uintptr_t>(address);
  auto found = allocations.upper_bound(number);
  if (found == allocations.begin()) return;
  --found;
  const Allocation& allocation = found->second;
  if (number - found->first >= allocation.bytes || allocation.device == device) return;
  tamias::Fail(tamias::ErrorCode::kInternal, "{}: on device {} with memory of device {}", action,
               device, allocation.device);
}

bool IsIntact(const unsigned char* guard) {
  return std::all_of(guard, guard + kGuard, [](unsigned char byte) { return byte == kNaNByte; });
}

}  // namespace

namespace tamias::cuda_emulator {

void SetMemoryOfOthers(size_t bytes) { memory_of_others = bytes; }

size_t AllocatedBytes(int device) {
  const std::lock_guard lock(mutex);
  return counts[device].allocated;
}

size_t PeakBytes(int device) {
  const std::lock_guard lock(mutex);
  return counts[device].peak;
}

void ResetPeak() {
  const std::lock_guard lock(mutex);
  for (auto& [device, count] : counts) count.peak = count.allocated;
  pinned_given_out = 0;
}

size_t PinnedBytesGivenOut() { return pinned_given_out; }

void CheckAddresses(CUstream_st* stream, const char* action,
                    std::span<const void* const> addresses) {
  const int device = DeviceOf(stream);
  const std::lock_guard lock(mutex);
  for (const void* address : addresses) CheckAddress(device, action, address);
}

}  // namespace tamias::cuda_emulator

using namespace tamias::cuda_emulator;

const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "invalid argument";
}

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  int device = 0;
  cudaGetDevice(&device);
  *total = kMemoryBytes;
  *free = kMemoryBytes - std::min(kMemoryBytes, memory_of_others + AllocatedBytes(device));
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const size_t rounded = (bytes + 2 * kGuard + 255) / 256 * 256;
  auto* storage = static_cast<unsigned char*>(std::aligned_alloc(256, rounded));
  if (storage == nullptr) return cudaErrorMemoryAllocation;
  std::memset(storage, kNaNByte, rounded);
  *memory = storage + kGuard;
  int device = 0;
  cudaGetDevice(&device);
  const std::lock_guard lock(mutex);
  allocations[reinterpret_cast<uintptr_t>(*memory)] = {bytes, device};
  Count& count = counts[device];
  count.allocated += bytes;
  count.peak = std::max(count.peak, count.allocated);
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  FinishAll();  // as a GPU does
  size_t bytes = 0;
  {
    const std::lock_guard lock(mutex);
    const auto found = allocations.find(reinterpret_cast<uintptr_t>(memory));
    if (found == allocations.end()) return cudaErrorInvalidValue;
    bytes = found->second.bytes;
    counts[found->second.device].allocated -= bytes;
    allocations.erase(found);
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
  pinned_given_out += bytes;
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

cudaError_t cudaFreeHost(void* memory) {
  FinishAll();
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  CheckAddresses(stream, "copying", std::array{static_cast<const void*>(to), from});
  Enqueue(stream, "memcpy", [=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpy3DPeerAsync(const cudaMemcpy3DPeerParms* copy, cudaStream_t stream) {
  const int device = DeviceOf(stream);
  if (device != copy->srcDevice && device != copy->dstDevice) return cudaErrorInvalidValue;
  const cudaExtent extent = copy->extent;
  const cudaPitchedPtr from = copy->srcPtr, to = copy->dstPtr;
  if (extent.width > std::min(from.pitch, to.pitch) || extent.depth != 1) {
    return cudaErrorInvalidValue;
  }
  {
    const std::lock_guard lock(mutex);
    CheckAddress(copy->srcDevice, "copying from a peer", from.ptr);
    CheckAddress(copy->dstDevice, "copying from a peer", to.ptr);
  }
  Enqueue(stream, "memcpy peer", [=] {
    for (size_t row = 0; row < extent.height; ++row) {
      std::memcpy(static_cast<std::byte*>(to.ptr) + row * to.pitch,
                  static_cast<const std::byte*>(from.ptr) + row * from.pitch, extent.width);
    }
  });
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (std::max(device, peer) >= count) return cudaErrorInvalidValue;
  *can = device != peer ? 1 : 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  int device = 0, can = 0;
  cudaGetDevice(&device);
  if (cudaDeviceCanAccessPeer(&can, device, peer) != cudaSuccess || can == 0) {
    return cudaErrorInvalidValue;
  }
  const std::lock_guard lock(mutex);
  return peers.insert({device, peer}).second ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  CheckAddresses(stream, "zeroing", std::array{static_cast<const void*>(to)});
  Enqueue(stream, "memset", [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
