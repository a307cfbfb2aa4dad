// What the machine offers, what of it this process may use, and what it uses now. A process may be
// held to fewer CPUs (taskset, cpusets, a cgroup's quota, OMP_NUM_THREADS) and to less memory
// (ulimit, a cgroup) than the machine has.
//
//   const tamias::MemoryPlan plan = pipeline.PlanMemory(options);
//   for (const tamias::MemoryLimit& limit : tamias::MemoryLimits()) {
//     if (plan.peak_bytes > limit.available_bytes()) std::cerr << limit.name << " is too small\n";
//   }
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace tamias {

// The processor's name and cores, and where they are fewer, the CPUs that this process may use:
// "Intel(R) Xeon(R) Processor, 2 cores", "..., 1 of 2 cores".
std::string MachineName();

// CPUs that this process may use at a time, at least 1: the smallest of its affinity mask, the CPU
// quotas of its cgroups (rounded up), the first number of OMP_NUM_THREADS, and OMP_THREAD_LIMIT.
int UsableCpus();

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
std::vector<MemoryLimit> MemoryLimits();

// The largest resident set of this process so far, in bytes, mapped files included.
size_t PeakResidentBytes();
// The resident set of this process now, in bytes, mapped files included.
size_t ResidentBytes();

}  // namespace tamias
