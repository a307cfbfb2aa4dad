// What this process may use, under limits that the test sets on itself or on a child.
#include "base/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "tamias/context.h"

namespace tamias {
namespace {

using ::testing::HasSubstr;
using Kind = MemoryLimit::Kind;

// Runs the body in a child, whose limits and environment may change; whether it returned true.
bool InChild(const std::function<bool()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    bool is_right = false;
    try {
      is_right = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    _exit(is_right ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void SetLimit(int resource, size_t bytes) {
  rlimit limit{};
  getrlimit(resource, &limit);
  limit.rlim_cur = bytes;
  setrlimit(resource, &limit);
}

const MemoryLimit* Find(const std::vector<MemoryLimit>& limits, Kind kind) {
  for (const MemoryLimit& limit : limits) {
    if (limit.kind == kind) return &limit;
  }
  return nullptr;
}

// Leaves this process that much address space: relative, as sanitizers map terabytes. Returns the
// limit.
size_t LimitAddressSpace(size_t bytes) {
  SetLimit(RLIMIT_AS, size_t{1} << 60);
  const size_t limit = Find(MemoryLimits(), Kind::kAddressSpace)->used_bytes + bytes;
  SetLimit(RLIMIT_AS, limit);
  return limit;
}

TEST(UsableCpus, FollowsTheAffinityMask) {
  EXPECT_TRUE(InChild([] {
    cpu_set_t set;
    sched_getaffinity(0, sizeof(set), &set);
    int first = 0;
    while (!CPU_ISSET(first, &set)) ++first;
    CPU_ZERO(&set);
    CPU_SET(first, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0 && UsableCpus() == 1 &&
           Context().threads() == 1 && Context(3).threads() == 3;
  }));
}

TEST(UsableCpus, FollowsOpenMpsEnvironment) {
  const auto with = [](const char* name, const char* value, int expected) {
    return InChild([=] {
      unsetenv("OMP_NUM_THREADS");
      unsetenv("OMP_THREAD_LIMIT");
      const int all = UsableCpus();
      setenv(name, value, 1);
      return UsableCpus() == (expected == 0 ? all : std::min(all, expected));
    });
  };
  EXPECT_TRUE(with("OMP_NUM_THREADS", "1", 1));
  EXPECT_TRUE(with("OMP_NUM_THREADS", " 1 ", 1));
  EXPECT_TRUE(with("OMP_NUM_THREADS", "1,4,2", 1));
  EXPECT_TRUE(with("OMP_THREAD_LIMIT", "1", 1));
  EXPECT_TRUE(with("OMP_NUM_THREADS", "4096", 0));  // never more than there are
  for (const char* ignored : {"", "0", "-1", "many", "1x", "1.5", "99999999999999999999"}) {
    EXPECT_TRUE(with("OMP_NUM_THREADS", ignored, 0)) << ignored;
  }
}

TEST(MemoryLimits, BeginsWithTheMachine) {
  const std::vector<MemoryLimit> limits = MemoryLimits();
  ASSERT_FALSE(limits.empty());
  EXPECT_EQ(limits[0].name, "this machine's memory");
  EXPECT_EQ(limits[0].bytes, PhysicalMemoryBytes());
  EXPECT_GT(limits[0].available_bytes(), 0);
  EXPECT_LT(limits[0].available_bytes(), limits[0].bytes);
}

TEST(MemoryLimits, NamesResourceLimitsAndWhatCountsAgainstThem) {
  EXPECT_TRUE(InChild([] {
    if (Find(MemoryLimits(), Kind::kData) != nullptr) return false;
    const size_t bytes = LimitAddressSpace(size_t{1} << 30);
    SetLimit(RLIMIT_DATA, bytes - 1);
    SetLimit(RLIMIT_RSS, 4096);  // Linux ignores it
    const auto limits = MemoryLimits();
    const MemoryLimit* space = Find(limits, Kind::kAddressSpace);
    const MemoryLimit* data = Find(limits, Kind::kData);
    return space != nullptr && data != nullptr && space->name == "RLIMIT_AS (ulimit -v)" &&
           space->bytes == bytes && data->bytes == bytes - 1 && space->used_bytes > (1 << 20) &&
           data->used_bytes < space->used_bytes && data->used_bytes > 0;
  }));
}

TEST(MemoryLimits, TheFirstExceededOneIsFoundByItsOwnCount) {
  const std::vector<MemoryLimit> limits = {{Kind::kResident, "memory", 1000, 900},
                                           {Kind::kData, "data", 1000, 100},
                                           {Kind::kAddressSpace, "space", 1000, 500}};
  const auto name = [&](const MemoryNeed& need) {
    const MemoryLimit* limit = FindExceeded(limits, need);
    return limit == nullptr ? std::string() : limit->name;
  };
  EXPECT_EQ(name({.resident_bytes = 1000, .new_bytes = 500}), "");
  EXPECT_EQ(name({.resident_bytes = 1001, .new_bytes = 2000}), "memory");
  EXPECT_EQ(name({.resident_bytes = 1000, .new_bytes = 501}), "space");
  EXPECT_EQ(name({.resident_bytes = 1000, .new_bytes = 901}), "data");
  // Mapped files are address space and no data.
  EXPECT_EQ(name({.resident_bytes = 1000, .new_bytes = 100, .file_bytes = 401}), "space");
}

TEST(MemoryLimits, MoreThreadsCountAsStacksAndReservedMemory) {
  const MemoryLimit space{Kind::kAddressSpace, "space", 1000, 500};
  const MemoryLimit data{Kind::kData, "data", 1000, 500};
  const auto grown = [](const MemoryLimit& limit, int threads) {
    return BytesUnder(limit, {.threads = threads}) - BytesUnder(limit, {.threads = 1});
  };
  EXPECT_GE(grown(space, 100), grown(data, 100) + (size_t{64} << 20));
  EXPECT_GT(grown(data, 100), 0);
}

TEST(MachineName, SaysHowManyCoresMayBeUsed) {
  EXPECT_THAT(MachineName(), HasSubstr("core"));
  EXPECT_TRUE(InChild([] {
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) return true;
    setenv("OMP_NUM_THREADS", "1", 1);
    return MachineName().find(", 1 of ") != std::string::npos;
  }));
}

TEST(BytesText, GivesMebibytesBelowOneGibibyte) {
  EXPECT_EQ(BytesText(size_t{508} << 20), "508 MiB");
  EXPECT_EQ(BytesText(size_t{5} << 28), "1.25 GiB");
}

}  // namespace
}  // namespace tamias
