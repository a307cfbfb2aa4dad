// What the machine offers, what of it this process may use, and what it uses now. A process may be
// held to fewer CPUs (taskset, cpusets, a cgroup's quota, OMP_NUM_THREADS) and to less memory
// (ulimit, a cgroup) than the machine has: nothing else asks for either.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace tamias {

// CPUs that this process may use at a time, at least 1: the smallest of its affinity mask, the CPU
// quotas of its cgroups (rounded up), the first number of OMP_NUM_THREADS, and OMP_THREAD_LIMIT.
// root: as in ReadCgroupLimits.
int UsableCpus(const std::filesystem::path& root = "/");

// One limit on this process's memory.
struct MemoryLimit {
  enum class Kind {
    kResident,      // pages in memory: the machine's memory, a cgroup
    kAddressSpace,  // everything that is mapped, weights and reserved ranges too: RLIMIT_AS
    kData,          // private writable memory, threads' stacks too: RLIMIT_DATA
  };
  Kind kind = Kind::kResident;
  std::string name;  // "this machine's memory", "RLIMIT_AS (ulimit -v)", a cgroup's file
  size_t bytes = 0;
  size_t used_bytes = 0;  // now; of the machine and of a cgroup by other processes, too
  size_t available_bytes() const { return bytes > used_bytes ? bytes - used_bytes : 0; }
};

// All limits, the machine's memory first. RLIMIT_RSS is none: Linux ignores it.
std::vector<MemoryLimit> MemoryLimits(const std::filesystem::path& root = "/");

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

// "508 MiB", "1.25 GiB".
std::string BytesText(size_t bytes);

// Physical memory in bytes.
size_t PhysicalMemoryBytes();
// The largest resident set of this process so far, in bytes, mapped files included.
size_t PeakResidentBytes();
// The resident set of this process now, in bytes, mapped files included.
size_t ResidentBytes();
// The processor's name and cores, and where they are fewer, the CPUs that this process may use:
// "Intel(R) Xeon(R) Processor, 2 cores", "..., 1 of 2 cores".
std::string MachineName();

}  // namespace tamias
