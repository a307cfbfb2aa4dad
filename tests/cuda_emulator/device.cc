// Limits of a launch, as in the CUDA C++ Programming Guide, "Technical Specifications per Compute
// Capability".
#include "tests/cuda_emulator/device.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "base/check.h"
#include "tests/cuda_emulator/emulator.h"
#include "tests/cuda_emulator/symbols.h"

namespace tamias::cuda_emulator {
namespace {

constexpr unsigned kMostThreads = 1024, kMostThreadsZ = 64;
constexpr unsigned kMostBlocksX = 0x7FFFFFFF, kMostBlocksYZ = 65535;
constexpr size_t kDynamicAlignment = 1024;  // SharedMemory() in src/ops/cuda/shared_memory.cuh

std::atomic<int> capability = 86;
std::atomic<int> multiprocessors = 4;
thread_local int chosen = 0;
std::mutex mutex;
std::vector<std::string> names = {"emulator"};
std::map<const void*, size_t> most_dynamic;  // by kernel, where it was set

size_t StaticBytesOf(const void* kernel, bool has_dynamic) {
  const size_t bytes = SharedVariableBytes(kernel);
  if (!has_dynamic) return bytes;
  return (bytes + kDynamicAlignment - 1) / kDynamicAlignment * kDynamicAlignment;
}

void CheckSize(const Kernel& kernel, const char* what, const dim3& size, const dim3& most) {
  const auto is_within = [](unsigned value, unsigned limit) {
    return value >= 1 && value <= limit;
  };
  if (!is_within(size.x, most.x) || !is_within(size.y, most.y) || !is_within(size.z, most.z)) {
    Fail(ErrorCode::kInternal, "{}: {} of {} x {} x {}, a GPU takes 1 to {} x {} x {}", kernel.name,
         what, size.x, size.y, size.z, most.x, most.y, most.z);
  }
}

// Static shared variables of a kernel exist once in the emulator.
void CheckCluster(const Kernel& kernel, unsigned threads) {
  if (kernel.cluster == 1) return;
  if (capability < 90) {
    Fail(ErrorCode::kInternal, "{}: a cluster of blocks, compute capability {} has none",
         kernel.name, capability.load());
  }
  if (kernel.cluster > kMostCluster || kernel.grid.x % kernel.cluster != 0 || threads % 128 != 0 ||
      SharedVariableBytes(kernel.function) != 0) {
    Fail(
        ErrorCode::kInternal,
        "{}: clusters of {} blocks of {} threads in a grid {} wide: the emulator runs {} blocks of "
        "whole warpgroups without static shared memory",
        kernel.name, kernel.cluster, threads, kernel.grid.x, kMostCluster);
  }
}

}  // namespace

void SetDevices(std::vector<std::string> devices) {
  const std::lock_guard lock(mutex);
  names = std::move(devices);
}

void CheckChosen(CUstream_st* stream, const char* action) {
  if (DeviceOf(stream) == chosen) return;
  Fail(ErrorCode::kInternal, "{}: on a queue of device {} while device {} is chosen", action,
       DeviceOf(stream), chosen);
}

void SetComputeCapability(int value) { capability = value; }
int ComputeCapability() { return capability; }

void SetMultiprocessors(int count) { multiprocessors = count; }

size_t SharedBytesOptIn() {
  switch (capability) {
    case 75:
      return 64 * 1024;
    case 80:
    case 87:
      return 163 * 1024;
    case 86:
    case 89:
    case 120:
      return 99 * 1024;
    case 90:
    case 100:
      return kMostSharedBytes;
    default:
      Fail(ErrorCode::kInternal, "compute capability {} is not emulated", capability.load());
  }
}

size_t StaticSharedBytes(const Kernel& kernel) {
  return StaticBytesOf(kernel.function, kernel.shared_bytes > 0);
}

size_t MostDynamicSharedBytes(const void* kernel) {
  const size_t unasked =
      kSharedBytesUnasked - std::min(kSharedBytesUnasked, StaticBytesOf(kernel, true));
  const std::lock_guard lock(mutex);
  const auto found = most_dynamic.find(kernel);
  return found == most_dynamic.end() ? unasked : found->second;
}

void CheckLaunch(const Kernel& kernel) {
  CheckSize(kernel, "a block", kernel.block, {kMostThreads, kMostThreads, kMostThreadsZ});
  const unsigned threads = kernel.block.x * kernel.block.y * kernel.block.z;
  if (threads > kMostThreads) {
    Fail(ErrorCode::kInternal, "{}: {} threads in a block, a GPU takes at most {}", kernel.name,
         threads, kMostThreads);
  }
  CheckSize(kernel, "a grid", kernel.grid, {kMostBlocksX, kMostBlocksYZ, kMostBlocksYZ});
  CheckCluster(kernel, threads);
  const size_t fixed = StaticSharedBytes(kernel), bytes = fixed + kernel.shared_bytes;
  if (fixed > kSharedBytesUnasked) {  // nvcc does not compile it
    Fail(ErrorCode::kInternal, "{}: {} bytes of static shared memory, at most {} can be declared",
         kernel.name, fixed, kSharedBytesUnasked);
  }
  if (bytes > SharedBytesOptIn()) {
    Fail(ErrorCode::kInternal,
         "{}: {} bytes of shared memory ({} dynamic, {} static), compute capability {} has {}",
         kernel.name, bytes, kernel.shared_bytes, fixed, capability.load(), SharedBytesOptIn());
  }
  if (kernel.shared_bytes > 0 && kernel.shared_bytes > MostDynamicSharedBytes(kernel.function)) {
    Fail(
        ErrorCode::kInternal,
        "{}: {} bytes of shared memory ({} dynamic, {} static) and the kernel was not allowed more "
        "than {} dynamic",
        kernel.name, bytes, kernel.shared_bytes, fixed, MostDynamicSharedBytes(kernel.function));
  }
}

}  // namespace tamias::cuda_emulator

using namespace tamias::cuda_emulator;

cudaError_t cudaGetDeviceCount(int* count) {
  const std::lock_guard lock(mutex);
  *count = static_cast<int>(names.size());
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = chosen;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (device < 0 || device >= count) return cudaErrorInvalidValue;
  chosen = device;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  const std::lock_guard lock(mutex);
  if (device < 0 || device >= static_cast<int>(names.size())) return cudaErrorInvalidValue;
  *properties = {.name = {},
                 .major = capability / 10,
                 .minor = capability % 10,
                 .multiProcessorCount = multiprocessors,
                 .totalGlobalMem = kMemoryBytes,
                 .sharedMemPerBlockOptin = SharedBytesOptIn()};
  const std::string& name = names[static_cast<size_t>(device)];
  name.copy(properties->name, sizeof(properties->name) - 1);
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* kernel) {
  *attributes = {.sharedSizeBytes = StaticBytesOf(kernel, true),
                 .maxThreadsPerBlock = static_cast<int>(kMostThreads),
                 .numRegs = 0,
                 .maxDynamicSharedSizeBytes = static_cast<int>(MostDynamicSharedBytes(kernel))};
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0) {
    return cudaErrorInvalidValue;
  }
  const auto bytes = static_cast<size_t>(value);
  if (StaticBytesOf(kernel, true) + bytes > SharedBytesOptIn()) return cudaErrorInvalidValue;
  const std::lock_guard lock(mutex);
  most_dynamic[kernel] = bytes;
  return cudaSuccess;
}
