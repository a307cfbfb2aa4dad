// The control groups (cgroups) of this process, version 1 and 2: what container runtimes, systemd
// and batch systems limit CPU time and memory with. A group is bound by its own limits and by those
// of every group above it, as far as they are mounted here.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace tamias {

// CPU time per time, in CPUs: cpu.max of version 2, cpu.cfs_quota_us / cpu.cfs_period_us of 1.
struct CgroupCpuLimit {
  std::string file;  // that sets it: "/sys/fs/cgroup/cpu.max"
  double cpus = 0;   // above 0
};

// Memory: memory.max and memory.high of version 2 (beyond memory.high a process is slowed to a
// standstill instead of killed), memory.limit_in_bytes of 1.
struct CgroupMemoryLimit {
  std::string file;
  size_t bytes = 0;
  // In use by all processes of the group, without the file pages that the kernel would drop first.
  size_t used_bytes = 0;
};

// All limits that bind the process, in no order. root: the folder that stands for "/" (in tests a
// tree of their own, with proc/self/cgroup, proc/self/mountinfo and the mounts that it names).
// What is missing or cannot be understood sets no limit.
std::vector<CgroupCpuLimit> ReadCgroupCpuLimits(const std::filesystem::path& root);
std::vector<CgroupMemoryLimit> ReadCgroupMemoryLimits(const std::filesystem::path& root);

}  // namespace tamias
