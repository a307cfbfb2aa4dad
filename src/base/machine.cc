// sched_getaffinity, getrlimit, /proc/self, /proc/meminfo and the cgroups, put together.
#include "base/machine.h"

#include <alloca.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <latch>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>

#include "base/cgroup.h"
#include "base/check.h"

namespace tamias {
namespace {

size_t PageSize() { return static_cast<size_t>(sysconf(_SC_PAGE_SIZE)); }

// CPUs of the affinity mask. The kernel refuses a set that is smaller than its own: it is doubled.
int AffinityCpus() {
  for (int size = 1024; size <= 1 << 20; size *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(size));
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(size));
    const int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

// The first number of OMP_NUM_THREADS ("4,2": of nested levels), OMP_THREAD_LIMIT; nothing where
// OpenMP would ignore the variable, too.
std::optional<int> ThreadsFromEnvironment(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return {};
  while (std::isspace(static_cast<unsigned char>(*text)) != 0) ++text;
  int value = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  const bool ends = *end == '\0' || *end == ',' || std::isspace(static_cast<unsigned char>(*end));
  if (error != std::errc() || !ends || value < 1) return {};
  return value;
}

// A field of /proc/<file>, "name:   123 kB", as it stands.
size_t ProcField(const char* file, std::string_view name) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ':') {
      return std::strtoull(line.c_str() + name.size() + 1, nullptr, 10);
    }
  }
  return 0;
}

// The stack of a thread that OpenMP makes: OMP_STACKSIZE (in KiB unless it ends in B, K, M or G),
// else the system's default, which is `ulimit -s`.
size_t ThreadStackBytes() {
  size_t bytes = 0;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_getstacksize(&attributes, &bytes);
  pthread_attr_destroy(&attributes);
  const char* text = std::getenv("OMP_STACKSIZE");
  if (text == nullptr) return bytes;
  char* end = nullptr;
  const size_t number = std::strtoull(text, &end, 10);
  while (std::isspace(static_cast<unsigned char>(*end)) != 0) ++end;
  switch (std::toupper(static_cast<unsigned char>(*end))) {
    case 'B':
      return std::max(bytes, number);
    case 'M':
      return std::max(bytes, number << 20);
    case 'G':
      return std::max(bytes, number << 30);
    default:
      return std::max(bytes, number << 10);
  }
}

// What the C library maps, without using it, for the small allocations of one more thread.
constexpr size_t kArenaBytes = size_t{64} << 20;

// Threads that would have to be made beside those there are.
size_t NewThreads(int threads) {
  const size_t now = ProcField("/proc/self/status", "Threads");
  return static_cast<size_t>(std::max(threads, 1)) - std::min<size_t>(now, std::max(threads, 1));
}

void AddResourceLimit(int resource, MemoryLimit limit, std::vector<MemoryLimit>& limits) {
  rlimit value{};
  if (getrlimit(resource, &value) != 0 || value.rlim_cur == RLIM_INFINITY) return;
  limit.bytes = value.rlim_cur;
  limits.push_back(std::move(limit));
}

}  // namespace

int UsableCpus() { return UsableCpus("/"); }

int UsableCpus(const std::filesystem::path& root) {
  int cpus = AffinityCpus();
  for (const CgroupCpuLimit& limit : ReadCgroupCpuLimits(root)) {
    if (limit.cpus < cpus) cpus = std::max(1, static_cast<int>(std::ceil(limit.cpus)));
  }
  for (const char* name : {"OMP_NUM_THREADS", "OMP_THREAD_LIMIT"}) {
    cpus = std::min(cpus, ThreadsFromEnvironment(name).value_or(cpus));
  }
  return cpus;
}

std::vector<MemoryLimit> MemoryLimits() { return MemoryLimits("/"); }

std::vector<MemoryLimit> MemoryLimits(const std::filesystem::path& root) {
  using Kind = MemoryLimit::Kind;
  const size_t physical = PhysicalMemoryBytes();
  const size_t free = ProcField("/proc/meminfo", "MemAvailable") * 1024;
  std::vector<MemoryLimit> limits = {
      {Kind::kResident, "this machine's memory", physical, physical - std::min(physical, free)}};
  for (const CgroupMemoryLimit& limit : ReadCgroupMemoryLimits(root)) {
    limits.push_back(
        {Kind::kResident, "the cgroup's " + limit.file, limit.bytes, limit.used_bytes});
  }
  AddResourceLimit(RLIMIT_AS,
                   {Kind::kAddressSpace, "RLIMIT_AS (ulimit -v)", 0,
                    ProcField("/proc/self/status", "VmSize") * 1024},
                   limits);
  AddResourceLimit(
      RLIMIT_DATA,
      {Kind::kData, "RLIMIT_DATA (ulimit -d)", 0, ProcField("/proc/self/status", "VmData") * 1024},
      limits);
  return limits;
}

size_t BytesUnder(const MemoryLimit& limit, const MemoryNeed& need) {
  if (limit.kind == MemoryLimit::Kind::kResident) return need.resident_bytes;
  const size_t threads = NewThreads(need.threads);
  size_t bytes = limit.used_bytes + need.new_bytes + threads * ThreadStackBytes();
  if (limit.kind == MemoryLimit::Kind::kAddressSpace) {
    bytes += need.file_bytes + threads * kArenaBytes;
  }
  return bytes;
}

const MemoryLimit* FindExceeded(const std::vector<MemoryLimit>& limits, const MemoryNeed& need) {
  const auto exceeded = std::ranges::find_if(
      limits, [&](const MemoryLimit& limit) { return BytesUnder(limit, need) > limit.bytes; });
  return exceeded == limits.end() ? nullptr : &*exceeded;
}

std::string TightestMemoryLimit() {
  const std::vector<MemoryLimit> limits = MemoryLimits();
  const MemoryLimit& tightest =
      *std::ranges::min_element(limits, {}, &MemoryLimit::available_bytes);
  return fmt::format("{} of {}, {} in use", tightest.name, BytesText(tightest.bytes),
                     BytesText(tightest.used_bytes));
}

void GrowStack() {
  constexpr size_t kBytes = size_t{128} << 10;
  auto* stack = static_cast<volatile char*>(alloca(kBytes));
  for (size_t i = 0; i < kBytes; i += 4096) stack[i] = 0;
}

void CheckThreads(int threads) {
  const size_t count = NewThreads(threads);
  std::latch all_run(1);
  std::vector<std::jthread> tried;
  std::string problem;
  try {
    for (size_t i = 0; i < count; ++i) tried.emplace_back([&] { all_run.wait(); });
  } catch (const std::system_error& error) {
    problem = error.code().message();
  }
  all_run.count_down();
  if (problem.empty()) return;
  Fail(ErrorCode::kOutOfMemory,
       "threads: {} cannot run at a time: {} (ulimit -u and -v, or the cgroup, may allow fewer)",
       threads, problem);
}

std::string BytesText(size_t bytes) {
  const auto count = static_cast<double>(bytes);
  return bytes < size_t{1} << 30 ? fmt::format("{:.0f} MiB", count / 0x1p20)
                                 : fmt::format("{:.2f} GiB", count / 0x1p30);
}

size_t PhysicalMemoryBytes() { return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * PageSize(); }

size_t PeakResidentBytes() {
  // Not getrusage's: that begins with what the process had which started this one.
  std::ifstream status("/proc/self/status");
  std::string name;
  size_t kib = 0;
  while (status >> name) {
    if (name == "VmHWM:" && status >> kib) return kib * 1024;
    status.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return ResidentBytes();  // a kernel that does not tell
}

size_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total = 0;
  size_t resident = 0;
  statm >> total >> resident;
  return resident * PageSize();
}

bool HasBFloat16Instructions() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

bool HasBFloat16Tiles() {
#if defined(__x86_64__)
  static const bool has = [] {
    constexpr unsigned kBFloat16 = 1u << 22, kTiles = 1u << 24;  // of leaf 7, edx
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    if ((edx & kBFloat16) == 0 || (edx & kTiles) == 0) return false;
    // Their 8 KiB are no part of a process until it asks (Documentation/arch/x86/xstate.rst).
    constexpr int64_t kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
    return HasBFloat16Instructions() && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return has;
#else
  return false;
#endif
}

std::string MachineName() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  std::string name = "unknown processor";
  for (std::string line; std::getline(cpuinfo, line);) {
    if (line.rfind("model name", 0) == 0) {
      name = line.substr(line.find(':') + 2);
      break;
    }
  }
  const int cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  const int usable = UsableCpus();
  if (usable == cores) return fmt::format("{}, {} cores", name, cores);
  return fmt::format("{}, {} of {} cores", name, usable, cores);
}

}  // namespace tamias
