// Fibers, barriers and collectives: see the header. Fibers change with _setjmp and _longjmp, which,
// unlike swapcontext, need no system call: a collective of a warp is 32 changes, and a tile of
// attention some hundred collectives. makecontext begins a fiber once; from then on it runs thread
// after thread, of this launch and the next ones. What all threads use is reached by a pointer that
// needs no initialisation at run time, and is made ready for the next block without giving back
// memory: elementwise kernels have many blocks of little work.
#include "tests/cuda_emulator/block.h"

#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <ucontext.h>

#include "base/check.h"
#include "tamias/random.h"
#include "tests/cuda_emulator/async_copies.h"
#include "tests/cuda_emulator/async_proxy.h"
#include "tests/cuda_emulator/device.h"
#include "tests/cuda_emulator/landings.h"
#include "tests/cuda_emulator/mbarriers.h"
#include "tests/cuda_emulator/warpgroups.h"

namespace tamias::cuda_emulator {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kGuardBytes = 1024;
constexpr size_t kRegionBytes = kMostSharedBytes + kGuardBytes;  // from one block's to the next
static_assert(kRegionBytes % 1024 == 0);
constexpr int kNaNByte = 0xFF;

// The numbers of a seed, one after another.
struct Random {
  using result_type = uint32_t;
  static constexpr uint32_t min() { return 0; }
  static constexpr uint32_t max() { return std::numeric_limits<uint32_t>::max(); }

  uint32_t operator()() { return CounterRandom(seed, drawn++); }
  uint64_t Below(uint64_t choices) { return (*this)() * choices >> 32; }

  uint64_t seed = 0, drawn = 0;
};

struct Fiber {
  jmp_buf point;
  std::unique_ptr<std::byte[]> stack;
  bool began = false;  // FiberMain, which waits at `point` for the next thread to run
  bool done = false;
  uint3 index{};
  unsigned rank = 0;  // of its block in the cluster
  unsigned warp = 0, lane = 0;
  const char* waits_at = nullptr;
  int64_t waits_for = -1;  // which of these, where there are several
  int barrier_result = 0;
};

struct NamedBarrierState {
  size_t threads = 0, arrived = 0;
  std::vector<Fiber*> waiting;
};
constexpr size_t kNamedBarriers = 16;

// Lanes of one warp that have arrived at a collective.
struct Gathering {
  const char* name;
  Combine combine;
  unsigned mask;
  unsigned arrived = 0;
  Frames frames{};
  std::array<Fiber*, 32> fibers{};  // by lane
};

// Threads that wait for each other: those of a block, or of a cluster.
struct Meeting {
  size_t live = 0;
  std::vector<Fiber*> waiting;
  int count = 0;
};

// The blocks of a cluster, which run together.
struct Block {
  const Kernel* kernel = nullptr;
  const std::function<void()>* thread = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers;  // kept for the next launch, with their stacks
  size_t size = 0;                             // threads of one block
  uint3 first_index{};                         // of the cluster's first block
  std::vector<Fiber*> runnable;
  std::vector<Meeting> blocks;  // by rank
  Meeting cluster;
  std::vector<std::vector<Gathering>> gatherings;                             // by warp
  std::vector<std::array<NamedBarrierState, kNamedBarriers>> named_barriers;  // by rank
  Random random;
  int64_t turn = 0;
  unsigned sleeping_warp = 0;
  int64_t sleep_end = 0;  // the turn
  jmp_buf scheduler;
  Fiber* current = nullptr;
  std::exception_ptr error;
  std::unique_ptr<std::byte[]> shared_storage;
  std::byte* shared = nullptr;
};

constinit thread_local Block* block = nullptr;  // of the launch that runs on this thread, or ran
constinit thread_local uint64_t next_seed = 1;
constinit thread_local Statistics statistics;

void Suspend() {
  if (_setjmp(block->current->point) == 0) _longjmp(block->scheduler, 1);
}

void Release(Meeting& meeting) {
  if (meeting.waiting.empty() || meeting.waiting.size() < meeting.live) return;
  for (Fiber* fiber : meeting.waiting) {
    fiber->barrier_result = meeting.count;
    fiber->waits_at = nullptr;
    block->runnable.push_back(fiber);
  }
  meeting.waiting.clear();
  meeting.count = 0;
}

int Meet(const char* name, Meeting& meeting, int predicate) {
  Fiber* fiber = block->current;
  fiber->waits_at = name;
  meeting.count += predicate != 0 ? 1 : 0;
  meeting.waiting.push_back(fiber);
  Release(meeting);
  Suspend();
  return fiber->barrier_result;
}

void RunThread() {
  try {
    (*block->thread)();  // copies that nobody waited for never land
  } catch (...) {
    if (!block->error) block->error = std::current_exception();
  }
  block->current->done = true;
  for (Meeting* meeting : {&block->blocks[block->current->rank], &block->cluster}) {
    --meeting->live;
    Release(*meeting);
  }
}

[[noreturn]] void FiberMain() {
  while (true) {
    RunThread();
    Suspend();
  }
}

void Resume(Fiber* fiber) {
  block->current = fiber;
  threadIdx = fiber->index;
  blockIdx = block->first_index;
  blockIdx.x += fiber->rank;
  if (_setjmp(block->scheduler) != 0) {
    block->current = nullptr;
    return;
  }
  if (fiber->began) _longjmp(fiber->point, 1);
  fiber->began = true;
  ucontext_t start;
  getcontext(&start);
  start.uc_stack.ss_sp = fiber->stack.get();
  start.uc_stack.ss_size = kStackBytes;
  start.uc_link = nullptr;
  makecontext(&start, reinterpret_cast<void (*)()>(&FiberMain), 0);
  setcontext(&start);
}

void Prepare(size_t number) {
  if (number == block->fibers.size()) {
    block->fibers.push_back(std::make_unique<Fiber>());
    block->fibers.back()->stack.reset(new std::byte[kStackBytes]);
  }
  Fiber& fiber = *block->fibers[number];
  const auto index = static_cast<unsigned>(number % block->size);
  fiber.rank = static_cast<unsigned>(number / block->size);
  fiber.done = false;
  fiber.index = {index % blockDim.x, index / blockDim.x % blockDim.y,
                 index / blockDim.x / blockDim.y};
  fiber.warp = static_cast<unsigned>(number / 32);
  fiber.lane = index % 32;
  fiber.waits_at = nullptr;
  fiber.waits_for = -1;
  block->runnable.push_back(&fiber);
}

[[noreturn]] void ReportDeadlock(uint64_t seed) {
  std::map<std::string, int> waiting;
  for (size_t i = 0; i < ClusterThreads(); ++i) {
    const Fiber& fiber = *block->fibers[i];
    if (fiber.done) continue;
    const std::string place = fiber.waits_at == nullptr ? "nothing" : fiber.waits_at;
    const std::string item = fiber.waits_for < 0 ? "" : fmt::format(" {}", fiber.waits_for);
    ++waiting[fmt::format("warp {} at {}{}", fiber.warp, place, item)];
  }
  std::string text;
  for (const auto& [place, threads] : waiting) {
    text += fmt::format("{}{} threads of {}", text.empty() ? "" : ", ", threads, place);
  }
  Fail(ErrorCode::kInternal, "{}: deadlock in block ({}, {}, {}), seed {}: {}", block->kernel->name,
       blockIdx.x, blockIdx.y, blockIdx.z, seed, text);
}

void CheckSharedGuard() {
  for (unsigned rank = 0; rank < block->kernel->cluster; ++rank) {
    const std::byte* end = block->shared + rank * kRegionBytes + block->kernel->shared_bytes;
    for (size_t i = 0; i < kGuardBytes; ++i) {
      if (end[i] != std::byte{kNaNByte}) {
        Fail(ErrorCode::kInternal, "{}: wrote {} bytes behind its {} bytes of shared memory",
             block->kernel->name, i, block->kernel->shared_bytes);
      }
    }
  }
}

// One of those that can go on, at random. One warp sleeps for a while, then another, and goes on
// only when it must: warps fall behind each other further than by chance.
Fiber* TakeRunnable() {
  constexpr uint64_t kLongestSleep = 200;  // in turns of each thread
  constexpr int kTries = 8;
  if (block->turn >= block->sleep_end) {
    block->sleeping_warp = static_cast<unsigned>(block->random.Below(block->gatherings.size()));
    block->sleep_end = block->turn + static_cast<int64_t>(Draw(kLongestSleep * ClusterThreads()));
  }
  size_t chosen = block->random.Below(block->runnable.size());
  for (int i = 0; i < kTries && block->runnable[chosen]->warp == block->sleeping_warp; ++i) {
    chosen = block->random.Below(block->runnable.size());
  }
  std::swap(block->runnable[chosen], block->runnable.back());
  Fiber* fiber = block->runnable.back();
  block->runnable.pop_back();
  return fiber;
}

void Begin(Meeting& meeting, size_t threads) {
  meeting.live = threads;
  meeting.waiting.clear();
  meeting.count = 0;
}

// Threads that a launch left in their midst, by an error, are not gone on with.
void ForgetFibers() {
  for (const auto& fiber : block->fibers) fiber->began = false;
}

void RunBlock(uint64_t seed) {
  block->error = nullptr;
  const size_t cluster = block->kernel->cluster;
  block->size = size_t{blockDim.x} * blockDim.y * blockDim.z;
  const size_t threads = cluster * block->size;
  block->runnable.clear();
  block->blocks.resize(cluster);
  for (Meeting& meeting : block->blocks) Begin(meeting, block->size);
  Begin(block->cluster, threads);
  block->gatherings.resize((threads + 31) / 32);
  for (std::vector<Gathering>& of_warp : block->gatherings) of_warp.clear();
  block->named_barriers.resize(cluster);
  for (auto& of_block : block->named_barriers) of_block.fill({});
  block->turn = block->sleep_end = 0;
  for (size_t rank = 0; rank < cluster; ++rank) {
    std::memset(block->shared + rank * kRegionBytes, kNaNByte,
                block->kernel->shared_bytes + kGuardBytes);
  }
  BeginCopies();
  BeginMbarriers();
  BeginLandings();
  BeginAsyncProxy();
  BeginWarpgroups();
  for (size_t i = 0; i < threads; ++i) Prepare(i);
  while (block->cluster.live > 0) {
    if (block->runnable.empty()) {
      if (!LandSomething()) ReportDeadlock(seed);
      continue;
    }
    ++block->turn;
    MultiplyWhatIsDue();
    LandWhatIsDue();
    Resume(TakeRunnable());
    if (block->error) std::rethrow_exception(block->error);
  }
  EndWarpgroups();
  EndMbarriers();
  CheckSharedGuard();
}

}  // namespace

void Run(const Kernel& kernel, const std::function<void()>& thread) {
  CheckLaunch(kernel);
  static thread_local Block of_this_thread;
  block = &of_this_thread;
  const uint64_t seed = next_seed++;
  block->random = {.seed = seed};
  statistics = {};
  block->kernel = &kernel;
  block->thread = &thread;
  gridDim = kernel.grid;
  blockDim = kernel.block;
  if (!block->shared_storage) {
    block->shared_storage.reset(new std::byte[kMostCluster * kRegionBytes + 1024]);
    const auto address = reinterpret_cast<uintptr_t>(block->shared_storage.get());
    block->shared = block->shared_storage.get() + (1024 - address % 1024) % 1024;
  }
  std::vector<uint3> order;
  for (unsigned z = 0; z < gridDim.z; ++z) {
    for (unsigned y = 0; y < gridDim.y; ++y) {
      for (unsigned x = 0; x < gridDim.x; x += kernel.cluster) order.push_back({x, y, z});
    }
  }
  std::shuffle(order.begin(), order.end(), block->random);
  try {
    for (const uint3& index : order) {
      block->first_index = index;
      RunBlock(seed);
    }
  } catch (...) {
    ForgetFibers();
    throw;
  }
}

void SetSeed(uint64_t seed) { next_seed = seed; }
Statistics& LastLaunch() { return statistics; }
std::byte* DynamicSharedMemory() { return block->shared + ClusterRank() * kRegionBytes; }
unsigned ClusterRank() {
  return block == nullptr || block->current == nullptr ? 0 : block->current->rank;
}
int Lane() { return static_cast<int>(block->current->lane); }

int Barrier(const char* name, int predicate) {
  return Meet(name, block->blocks[block->current->rank], predicate);
}

void ClusterBarrier() { Meet("barrier.cluster", block->cluster, 0); }

void NamedBarrier(int id, int threads, bool waits) {
  const char* name = waits ? "bar.sync" : "bar.arrive";
  if (id < 1 || id >= static_cast<int>(kNamedBarriers) || threads < 32 || threads % 32 != 0) {
    Refuse(fmt::format("{}: barrier {} of {} threads: expected 1 to {} and whole warps", name, id,
                       threads, kNamedBarriers - 1));
  }
  NamedBarrierState& barrier = block->named_barriers[ClusterRank()][static_cast<size_t>(id)];
  if (barrier.arrived > 0 && barrier.threads != static_cast<size_t>(threads)) {
    Refuse(fmt::format("{}: barrier {} of {} threads: others came to one of {}", name, id, threads,
                       barrier.threads));
  }
  barrier.threads = static_cast<size_t>(threads);
  ++barrier.arrived;
  if (waits) barrier.waiting.push_back(block->current);
  if (barrier.arrived == barrier.threads) {
    for (Fiber* fiber : barrier.waiting) {
      fiber->waits_at = nullptr;
      fiber->waits_for = -1;
      block->runnable.push_back(fiber);
    }
    barrier = {};
  } else if (waits) {
    block->current->waits_at = name;
    block->current->waits_for = id;
  }
  if (waits) Suspend();
}

void Collect(const char* name, unsigned mask, void* frame, Combine combine) {
  Fiber* fiber = block->current;
  if ((mask >> fiber->lane & 1u) == 0) {
    Fail(ErrorCode::kInternal, "{}: {}: lane {} is not in its own mask {:#x}", block->kernel->name,
         name, fiber->lane, mask);
  }
  std::vector<Gathering>& open = block->gatherings[fiber->warp];
  size_t place = 0;
  while (place < open.size() && open[place].mask != mask) ++place;
  if (place == open.size()) open.push_back({.name = name, .combine = combine, .mask = mask});
  Gathering& gathering = open[place];
  if (gathering.combine != combine) {
    Fail(ErrorCode::kInternal, "{}: warp {} diverges: lane {} at {}, others at {}",
         block->kernel->name, fiber->warp, fiber->lane, name, gathering.name);
  }
  gathering.arrived |= 1u << fiber->lane;
  gathering.frames[fiber->lane] = frame;
  if (gathering.arrived != mask) {
    gathering.fibers[fiber->lane] = fiber;
    fiber->waits_at = name;
    Suspend();
    return;
  }
  combine(gathering.frames);
  for (Fiber* other : gathering.fibers) {
    if (other == nullptr) continue;
    other->waits_at = nullptr;
    block->runnable.push_back(other);
  }
  if (place + 1 < open.size()) std::swap(gathering, open.back());
  open.pop_back();
}

void SyncWarp(unsigned mask) {
  int nothing = 0;
  Collect("__syncwarp", mask, &nothing, [](const Frames&) {});
}

unsigned Ballot(unsigned mask, bool predicate) {
  struct Frame {
    bool predicate;
    unsigned result;
  } frame{predicate, 0};
  Collect("__ballot_sync", mask, &frame, [](const Frames& frames) {
    unsigned bits = 0;
    for (size_t lane = 0; lane < 32; ++lane) {
      if (frames[lane] != nullptr && static_cast<Frame*>(frames[lane])->predicate)
        bits |= 1u << lane;
    }
    for (void* to : frames) {
      if (to != nullptr) static_cast<Frame*>(to)->result = bits;
    }
  });
  return frame.result;
}

void CheckAligned(const char* operation, const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
    Fail(ErrorCode::kInternal, "{}: {}: address {} is not a multiple of {}", block->kernel->name,
         operation, address, bytes);
  }
}

void CheckLaunchBounds(int most_threads) {
  if (block->size > static_cast<size_t>(most_threads)) {
    Fail(ErrorCode::kInternal, "{}: {} threads in a block, the kernel's launch bounds allow {}",
         block->kernel->name, block->size, most_threads);
  }
}

void FailInKernel(const std::string& text) {
  if (block == nullptr || block->current == nullptr) {
    std::fprintf(stderr, "emulator: outside a kernel: %s\n", text.c_str());
    std::abort();
  }
  block->error = std::make_exception_ptr(
      Error(ErrorCode::kInternal, fmt::format("{}: {}", block->kernel->name, text)));
  _longjmp(block->scheduler, 1);  // the thread is left as it stands
}

const Kernel& CurrentKernel() { return *block->kernel; }
unsigned BlockThreads() { return static_cast<unsigned>(block->size); }
unsigned ClusterThreads() { return block->kernel->cluster * BlockThreads(); }
std::byte* SharedMemoryOf(unsigned thread) {
  return block->shared + thread / BlockThreads() * kRegionBytes;
}
bool HasEnded(unsigned rank) { return block->blocks[rank].live == 0; }
std::byte* ClusterMemory() { return block->shared; }
size_t ClusterMemoryBytes() {
  return (block->kernel->cluster - 1) * kRegionBytes + block->kernel->shared_bytes;
}
unsigned CurrentThread() { return 32 * block->current->warp + block->current->lane; }

void Park(const char* place, int64_t item) {
  block->current->waits_at = place;
  block->current->waits_for = item;
  Suspend();
}

void Wake(unsigned thread) {
  Fiber* fiber = block->fibers[thread].get();
  fiber->waits_at = nullptr;
  fiber->waits_for = -1;
  block->runnable.push_back(fiber);
}

uint64_t Draw(uint64_t choices) { return block->random.Below(choices); }
int64_t Turn() { return block->turn; }

void Refuse(const std::string& text) {
  Fail(ErrorCode::kInternal, "{}: {}", block->kernel->name, text);
}

}  // namespace tamias::cuda_emulator
