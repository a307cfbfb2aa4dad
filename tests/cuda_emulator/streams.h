// Queues of work of the emulated devices. At first what is enqueued runs at once. With shuffled
// streams it waits: each time something is enqueued, any number of pieces of work run, drawn at
// random from the queues that no event holds up; and all that a stream or an event stands for runs
// when the host waits for it. So a kernel that does not wait for the copy it needs, and a copy that
// does not wait for the kernel that still reads, give wrong results. Several threads may enqueue;
// with shuffled streams one piece of work runs at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

struct CUstream_st;

namespace tamias::cuda_emulator {

// name: of a kernel, "product" of cuBLASLt, "memcpy", "memcpy peer" or "memset".
void Enqueue(CUstream_st* stream, const char* name, std::function<void()> work);
int DeviceOf(CUstream_st* stream);
// Of all streams.
void FinishAll();

// While one lives.
class ShuffledStreams {
 public:
  explicit ShuffledStreams(uint64_t seed);
  ~ShuffledStreams();
  ShuffledStreams(const ShuffledStreams&) = delete;
  ShuffledStreams& operator=(const ShuffledStreams&) = delete;
};

// Counts what the host asks of the device while it lives; one at a time.
class LaunchCounter {
 public:
  LaunchCounter();
  ~LaunchCounter();
  LaunchCounter(const LaunchCounter&) = delete;
  LaunchCounter& operator=(const LaunchCounter&) = delete;

  // Kernels, products, copies and fills, by their names.
  std::map<std::string, int64_t> by_name() const;
  int64_t total() const;
  // Times the host waited for work that it did not know to be done.
  int64_t waits() const;
};

}  // namespace tamias::cuda_emulator
