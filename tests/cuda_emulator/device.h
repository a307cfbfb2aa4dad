// The emulated GPUs: how many there are, what was allocated on each, and what a launch may ask for,
// by compute capability. Memory of one of them that another works with is an error.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "tests/cuda_emulator/block.h"

struct CUstream_st;

namespace tamias::cuda_emulator {

// The names of the devices, for all threads; one at first. Nothing may be allocated on those that
// go.
void SetDevices(std::vector<std::string> names);

// 10 * major + minor. 86 at first, which of those that Tamias serves has the least shared memory.
// For all threads, until it is set again.
void SetComputeCapability(int capability);
int ComputeCapability();

// 4 at first, by which kernels choose tiles. For all threads, until it is set again.
void SetMultiprocessors(int count);

constexpr size_t kMostSharedBytes = 227 * 1024;    // of a block on any device
constexpr unsigned kMostCluster = 2;               // blocks; a GPU allows 8
constexpr size_t kSharedBytesUnasked = 48 * 1024;  // of a block of a kernel that did not ask
size_t SharedBytesOptIn();                         // of a block, static and dynamic, of this one

// Static and, where it is used, the padding that puts dynamic shared memory on its boundary.
size_t StaticSharedBytes(const Kernel& kernel);
// cudaFuncAttributeMaxDynamicSharedMemorySize: what is left of 48 KiB at first.
size_t MostDynamicSharedBytes(const void* kernel);

constexpr size_t kMemoryBytes = size_t{1} << 30;  // of a device
// Of each device, what other programs are said to hold.
void SetMemoryOfOthers(size_t bytes);

// What cudaMalloc gave out on a device: now, and at most since the last call of ResetPeak, which is
// for all of them.
size_t AllocatedBytes(int device = 0);
size_t PeakBytes(int device = 0);
void ResetPeak();
// What cudaHostAlloc gave out since then, whether it is still held or not.
size_t PinnedBytesGivenOut();

// Throws tamias::Error where one of the addresses is in memory of another device than that of the
// stream; `action` is what was to be done with it.
void CheckAddresses(CUstream_st* stream, const char* action,
                    std::span<const void* const> addresses);
// Throws where the stream is not of the device that the calling thread chose.
void CheckChosen(CUstream_st* stream, const char* action);

// CheckAddresses of an argument, which may be a struct with addresses in it. Between its fields may
// lie what was on the stack before: nothing is checked where the compiler cannot clear that.
template <typename Argument>
void CheckArgument(CUstream_st* stream, const char* kernel, Argument argument) {
#if __has_builtin(__builtin_clear_padding)
  __builtin_clear_padding(&argument);
  constexpr size_t kWords = sizeof(argument) / sizeof(void*);
  std::array<const void*, kWords + 1> words{};
  std::memcpy(words.data(), &argument, kWords * sizeof(void*));
  CheckAddresses(stream, kernel, words);
#endif
}
// What is wrong with the device of a launch.
template <typename... Arguments>
void CheckArguments(CUstream_st* stream, const char* kernel, const Arguments&... arguments) {
  CheckChosen(stream, kernel);
  (CheckArgument(stream, kernel, arguments), ...);
}

// Throws tamias::Error, naming the kernel, what it asks for and what is allowed, where a GPU would
// refuse the launch: threads of a block, blocks of the grid, shared memory. Launch bounds show when
// the kernel runs (CheckLaunchBounds).
void CheckLaunch(const Kernel& kernel);

}  // namespace tamias::cuda_emulator
