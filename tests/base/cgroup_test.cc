// Control groups from trees in the formats of the kernel: versions 1 and 2, both, containers,
// broken files.
#include "base/cgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/machine.h"
#include "tests/support/fake_root.h"

namespace tamias {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

constexpr size_t kMiB = size_t{1} << 20;
constexpr char kV2[] =
    "24 30 0:22 / /proc rw - proc proc rw\n"
    "31 30 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr char kV1[] =
    "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "33 31 0:30 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

std::vector<double> Cpus(const std::filesystem::path& root) {
  std::vector<double> cpus;
  for (const CgroupCpuLimit& limit : ReadCgroupCpuLimits(root)) cpus.push_back(limit.cpus);
  return cpus;
}

std::vector<size_t> Bytes(const std::filesystem::path& root) {
  std::vector<size_t> bytes;
  for (const CgroupMemoryLimit& limit : ReadCgroupMemoryLimits(root)) bytes.push_back(limit.bytes);
  return bytes;
}

TEST(Cgroup, NoneWithoutFiles) {
  const FakeRoot root;
  EXPECT_THAT(Cpus(root.path()), IsEmpty());
  EXPECT_THAT(Bytes(root.path()), IsEmpty());
  EXPECT_THAT(ReadCgroupMemoryLimits("/nowhere"), IsEmpty());
}

TEST(Cgroup, Version2BindsFromTheGroupToTheRoot) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo", kV2);
  root.Write("proc/self/cgroup", "0::/user.slice/job 7\n");
  root.Write("sys/fs/cgroup/user.slice/job 7/cpu.max", "150000 100000\n");
  root.Write("sys/fs/cgroup/user.slice/job 7/memory.max", "max\n");
  root.Write("sys/fs/cgroup/user.slice/job 7/memory.high", "209715200\n");
  root.Write("sys/fs/cgroup/user.slice/job 7/memory.current", "104857600\n");
  root.Write("sys/fs/cgroup/user.slice/job 7/memory.stat", "anon 1\ninactive_file 41943040\n");
  root.Write("sys/fs/cgroup/user.slice/cpu.max", "max 100000\n");
  root.Write("sys/fs/cgroup/user.slice/memory.max", "104857600\n");
  root.Write("sys/fs/cgroup/other/memory.max", "4096\n");
  EXPECT_THAT(Cpus(root.path()), UnorderedElementsAre(1.5));
  EXPECT_THAT(Bytes(root.path()), UnorderedElementsAre(200 * kMiB, 100 * kMiB));
  for (const CgroupMemoryLimit& limit : ReadCgroupMemoryLimits(root.path())) {
    EXPECT_THAT(limit.file, ::testing::HasSubstr("user.slice"));
    const bool is_own = limit.bytes == 200 * kMiB;
    EXPECT_EQ(limit.used_bytes, is_own ? 60 * kMiB : 0);
  }
}

TEST(Cgroup, Version2InAContainerIsTheMountItself) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo", kV2);
  root.Write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  root.Write("sys/fs/cgroup/memory.max", "536870912\n");
  // Of a namespace of its own; of the host; beside the namespace's root.
  for (const char* group : {"0::/\n", "0::/docker/0123abcd\n", "0::/../other\n"}) {
    root.Write("proc/self/cgroup", group);
    EXPECT_THAT(Cpus(root.path()), UnorderedElementsAre(0.5)) << group;
    EXPECT_THAT(Bytes(root.path()), UnorderedElementsAre(512 * kMiB)) << group;
  }
}

TEST(Cgroup, Version1HasAHierarchyForEachController) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo", kV1);
  root.Write("proc/self/cgroup",
             "12:memory:/batch/job\n4:cpu,cpuacct:/slow\n3:cpuset:/\n1:name=systemd:/x:y\n");
  root.Write("sys/fs/cgroup/cpu,cpuacct/slow/cpu.cfs_quota_us", "250000\n");
  root.Write("sys/fs/cgroup/cpu,cpuacct/slow/cpu.cfs_period_us", "100000\n");
  root.Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  root.Write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  root.Write("sys/fs/cgroup/memory/batch/job/memory.limit_in_bytes", "9223372036854771712\n");
  root.Write("sys/fs/cgroup/memory/batch/memory.limit_in_bytes", "1073741824\n");
  root.Write("sys/fs/cgroup/memory/batch/memory.usage_in_bytes", "3145728\n");
  root.Write("sys/fs/cgroup/memory/batch/memory.stat",
             "total_inactive_file 1048576\nhierarchical_memory_limit 536870912\n");
  EXPECT_THAT(Cpus(root.path()), UnorderedElementsAre(2.5));
  // The second is of a group above that has no folder here.
  EXPECT_THAT(Bytes(root.path()), UnorderedElementsAre(1024 * kMiB, 512 * kMiB));
  EXPECT_EQ(ReadCgroupMemoryLimits(root.path()).front().used_bytes, 2 * kMiB);
}

TEST(Cgroup, Version1InAContainerIsMountedAtItsGroup) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo",
             "35 31 0:32 /docker/12 /sys/fs/cgroup/memory ro master:3 - cgroup cgroup rw,memory\n"
             "36 31 0:29 /docker/12 /sys/fs/cgroup/cpu ro master:4 - cgroup cgroup rw,cpu\n");
  root.Write("proc/self/cgroup", "4:memory:/docker/12/inner\n3:cpu:/docker/123\n");
  root.Write("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n");
  root.Write("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "2097152\n");
  root.Write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "100000\n");  // not below /docker/12: the mount
  root.Write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "50000\n");
  EXPECT_THAT(Bytes(root.path()), UnorderedElementsAre(kMiB, 2 * kMiB));
  EXPECT_THAT(Cpus(root.path()), UnorderedElementsAre(2));
}

TEST(Cgroup, HybridReadsBothVersions) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo",
             std::string(kV1) +
                 "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n");
  root.Write("proc/self/cgroup", "4:memory:/a\n1:cpu,cpuacct:/\n0::/b\n");
  root.Write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "4194304\n");
  root.Write("sys/fs/cgroup/unified/b/cpu.max", "300000 100000\n");
  EXPECT_THAT(Bytes(root.path()), UnorderedElementsAre(4 * kMiB));
  EXPECT_THAT(Cpus(root.path()), UnorderedElementsAre(3));
}

TEST(Cgroup, MountPointsAreUnescapedAndTheNearestIsTaken) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo",
             "30 1 0:1 /elsewhere /other rw - cgroup2 cgroup2 rw\n"
             "31 1 0:1 / /a\\040b\\134c rw - cgroup2 cgroup2 rw\n"
             "32 1 0:1 /job /near rw - cgroup2 cgroup2 rw\n");
  root.Write("other/memory.max", "1048576\n");
  root.Write("a b\\c/memory.max", "2097152\n");
  root.Write("near/memory.max", "3145728\n");
  root.Write("proc/self/cgroup", "0::/job\n");
  EXPECT_THAT(Bytes(root.path()), UnorderedElementsAre(3 * kMiB));
  root.Write("proc/self/cgroup", "0::/x\n");
  EXPECT_THAT(Bytes(root.path()), UnorderedElementsAre(2 * kMiB));
}

TEST(Cgroup, GarbageSetsNoLimit) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo", std::string("\n - \nx - cgroup2\n31 30 0:27 /\n\\04") + kV2);
  root.Write("proc/self/cgroup", "\n:\n0:\nnonsense\n0::/job\n");
  for (const char* text : {"", "\n", "max", "lots\n", "-5\n", "1e3\n", "0x10\n", "12 13 14\n",
                           "99999999999999999999999999\n", "100000\n", "0 0\n", "0 100000\n",
                           "100000 0\n", "100000 -1\n"}) {
    root.Write("sys/fs/cgroup/job/cpu.max", text);
    if (std::string_view(text) == "12 13 14\n") continue;  // a quota of 12 / 13
    EXPECT_THAT(ReadCgroupCpuLimits(root.path()), IsEmpty()) << text;
  }
  root.Write("sys/fs/cgroup/job/cpu.max", "\xff\xfe");
  for (const char* text : {"", "lots\n", "-1\n", "1e9\n", "99999999999999999999999999\n"}) {
    root.Write("sys/fs/cgroup/job/memory.max", text);
    EXPECT_THAT(ReadCgroupMemoryLimits(root.path()), IsEmpty()) << text;
  }
}

TEST(Cgroup, QuotasLimitTheCpusRoundedUp) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo", kV2);
  root.Write("proc/self/cgroup", "0::/\n");
  const int cpus = UsableCpus(root.path());
  EXPECT_GE(cpus, 1);
  root.Write("sys/fs/cgroup/cpu.max", "1000 100000\n");  // a hundredth
  EXPECT_EQ(UsableCpus(root.path()), 1);
  root.Write("sys/fs/cgroup/cpu.max", "110000 100000\n");
  EXPECT_EQ(UsableCpus(root.path()), std::min(cpus, 2));
  root.Write("sys/fs/cgroup/cpu.max", "100000000 100000\n");
  EXPECT_EQ(UsableCpus(root.path()), cpus);
}

TEST(Cgroup, MemoryIsAmongTheLimitsByItsFile) {
  const FakeRoot root;
  root.Write("proc/self/mountinfo", kV2);
  root.Write("proc/self/cgroup", "0::/\n");
  const size_t before = MemoryLimits(root.path()).size();
  root.Write("sys/fs/cgroup/memory.max", "1048576\n");
  const std::vector<MemoryLimit> limits = MemoryLimits(root.path());
  ASSERT_THAT(limits, SizeIs(before + 1));
  EXPECT_THAT(limits[1].name, ::testing::EndsWith("sys/fs/cgroup/memory.max"));
  EXPECT_EQ(limits[1].bytes, kMiB);
  EXPECT_EQ(limits[1].kind, MemoryLimit::Kind::kResident);
}

}  // namespace
}  // namespace tamias
