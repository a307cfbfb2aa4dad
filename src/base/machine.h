// The machine as the engine looks at it, beside what tamias/machine.h tells everyone: whether a
// piece of work fits the limits on memory and threads. Nothing else asks for either.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "tamias/machine.h"
#include "tamias/text.h"

namespace tamias {

// As in tamias/machine.h, with the root of ReadCgroupCpuLimits.
int UsableCpus(const std::filesystem::path& root);
std::vector<MemoryLimit> MemoryLimits(const std::filesystem::path& root);

// What a piece of work needs.
struct MemoryNeed {
  size_t resident_bytes = 0;  // of this process at its peak, what it holds now included
  size_t new_bytes = 0;       // of memory that will be allocated beside what there is now
  size_t file_bytes = 0;      // of files that will be mapped
  int threads = 1;            // that the work runs on
};

// How much of a limit the process takes with that need, and the first of the limits that it does
// not fit. With `threads` go their stacks and the memory that the C library reserves for each.
size_t BytesUnder(const MemoryLimit& limit, const MemoryNeed& need);
const MemoryLimit* FindExceeded(const std::vector<MemoryLimit>& limits, const MemoryNeed& need);

// The limit that leaves the least: "RLIMIT_AS (ulimit -v) of 508 MiB, 490 MiB in use". For
// messages.
std::string TightestMemoryLimit();

// Throws kOutOfMemory unless that many threads of this process can run at a time: OpenMP would end
// the process where it cannot have one.
void CheckThreads(int threads);

// Takes 128 KiB of the calling thread's stack now: later, where memory has run out, the kernel
// would end a process whose stack must grow.
void GrowStack();

// Physical memory in bytes.
size_t PhysicalMemoryBytes();

// Whether the processor multiplies bf16: AVX-512 BF16.
bool HasBFloat16Instructions();

// Whether it has AMX's tiles of bf16 as well, and Linux gives them to this process: it asks once.
bool HasBFloat16Tiles();

}  // namespace tamias
