// The emulated GPU's limits: what a launch may ask for, by compute capability.
#pragma once

#include <cstddef>

#include "tests/cuda_emulator/block.h"

namespace tamias::cuda_emulator {

// 10 * major + minor. 86 at first, which of those that Tamias serves has the least shared memory.
// For all threads, until it is set again.
void SetComputeCapability(int capability);
int ComputeCapability();

constexpr size_t kMostSharedBytes = 227 * 1024;    // of a block on any device
constexpr unsigned kMostCluster = 2;               // blocks; a GPU allows 8
constexpr size_t kSharedBytesUnasked = 48 * 1024;  // of a block of a kernel that did not ask
size_t SharedBytesOptIn();                         // of a block, static and dynamic, of this one

// Static and, where it is used, the padding that puts dynamic shared memory on its boundary.
size_t StaticSharedBytes(const Kernel& kernel);
// cudaFuncAttributeMaxDynamicSharedMemorySize: what is left of 48 KiB at first.
size_t MostDynamicSharedBytes(const void* kernel);

// What cudaMalloc gave out: now, and at most since the last call of ResetPeak.
size_t AllocatedBytes();
size_t PeakBytes();
void ResetPeak();

// Throws tamias::Error, naming the kernel, what it asks for and what is allowed, where a GPU would
// refuse the launch: threads of a block, blocks of the grid, shared memory. Launch bounds show when
// the kernel runs (CheckLaunchBounds).
void CheckLaunch(const Kernel& kernel);

}  // namespace tamias::cuda_emulator
