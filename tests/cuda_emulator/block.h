// How the emulator runs a kernel: every CUDA thread of a block is a fiber; a fiber runs until it
// waits at a barrier or a warp collective, then another is drawn at random (seeded), so that code
// that lacks a barrier gives wrong results. When nobody can run, the launch ends with an error that
// says who waits where.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Set by the scheduler whenever it changes fibers; a fiber stays on one thread of the host.
inline constinit thread_local uint3 threadIdx{};
inline constinit thread_local uint3 blockIdx{};
inline constinit thread_local dim3 blockDim{};
inline constinit thread_local dim3 gridDim{};

namespace tamias::cuda_emulator {

struct Kernel {
  const char* name = "";
  const void* function = nullptr;  // the kernel itself
  dim3 grid = {};
  dim3 block = {};
  size_t shared_bytes = 0;
  unsigned cluster = 1;  // blocks, neighbours along x, that run together
};

// Runs `thread` once per CUDA thread, clusters of blocks one after another in random order. Throws
// tamias::Error where a GPU would refuse the launch (device.h), on a deadlock, a divergent
// collective, a misaligned access, a write behind shared memory, and whatever a thread throws.
void Run(const Kernel& kernel, const std::function<void()>& thread);

// Order of blocks and threads of the next launches; each launch counts on from here.
void SetSeed(uint64_t seed);

// What the last launch did.
struct Statistics {
  int64_t matrix_loads = 0;           // ldmatrix instructions, by warp
  int64_t matrix_load_conflicts = 0;  // shared-memory passes beyond the least possible
  int64_t async_copies = 0;           // cp.async, by thread
  int64_t products = 0;               // mma instructions, by warp
  int64_t warpgroup_products = 0;     // wgmma instructions, by warp
};
Statistics& LastLaunch();

// ---- called by threads of a kernel --------------------------------------------------------------
std::byte* DynamicSharedMemory();
int Lane();
unsigned ClusterRank();  // of the block in its cluster

// Waits for all threads of the block that have not ended; returns how many gave a predicate.
int Barrier(const char* name, int predicate);
// Waits for all threads of the cluster that have not ended.
void ClusterBarrier();

// Waits for the lanes of `mask`; the last to arrive calls combine with each lane's frame (null for
// lanes outside the mask) and the others wake up. All lanes must call the same collective.
using Frames = std::array<void*, 32>;
using Combine = void (*)(const Frames& frames);
void Collect(const char* name, unsigned mask, void* frame, Combine combine);

// bar.sync and bar.arrive: barrier id, 1 to 15, of so many threads of the block.
void NamedBarrier(int id, int threads, bool waits);

void SyncWarp(unsigned mask);
unsigned Ballot(unsigned mask, bool predicate);

// The value of lane `from`; as on a GPU, `from` must be in the mask.
template <typename T>
T Shuffle(unsigned mask, T value, int from) {
  static_assert(std::is_trivially_copyable_v<T>);
  struct Frame {
    T value, result;
    int from;
  } frame{value, value, from};
  Collect("__shfl_sync", mask, &frame, [](const Frames& frames) {
    for (void* to : frames) {
      if (to == nullptr) continue;
      auto* lane = static_cast<Frame*>(to);
      const void* source = frames[static_cast<size_t>(lane->from)];
      if (source != nullptr) lane->result = static_cast<const Frame*>(source)->value;
    }
  });
  return frame.result;
}

// Throws unless the address is a multiple of `bytes`.
void CheckAligned(const char* operation, const void* address, size_t bytes);

// Throws when the block has more threads than the kernel's launch bounds allow.
void CheckLaunchBounds(int most_threads);

// Ends the launch with an error of this text, from code that cannot throw; ends the program when no
// kernel runs.
[[noreturn]] void FailInKernel(const std::string& text);

// ---- for the emulator's other parts -------------------------------------------------------------
const Kernel& CurrentKernel();
unsigned BlockThreads();                     // of a block
unsigned ClusterThreads();                   // of the blocks that run together, numbered through
unsigned CurrentThread();                    // its number in the cluster
std::byte* SharedMemoryOf(unsigned thread);  // dynamic, of the thread's block
bool HasEnded(unsigned rank);                // all threads of this block of the cluster
std::byte* ClusterMemory();                  // those of all blocks of the cluster, with gaps
size_t ClusterMemoryBytes();
void Park(const char* place, int64_t item);  // suspends the thread until Wake; item: of the place
void Wake(unsigned thread);
uint64_t Draw(uint64_t choices);  // 0 to choices - 1, of up to 2^32, from the launch's seed
int64_t Turn();                   // how often threads have changed in this block

// Throws tamias::Error with the kernel's name before the text.
[[noreturn]] void Refuse(const std::string& text);

}  // namespace tamias::cuda_emulator
