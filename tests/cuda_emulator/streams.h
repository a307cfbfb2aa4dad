// Queues of work of the emulated devices. At first what is enqueued runs at once. With shuffled
// streams it waits: each time something is enqueued, any number of pieces of work run, drawn at
// random from the queues that no event holds up; and all that a stream or an event stands for runs
// when the host waits for it. So a kernel that does not wait for the copy it needs, and a copy that
// does not wait for the kernel that still reads, give wrong results. Several threads may enqueue;
// with shuffled streams one piece of work runs at a time.
#pragma once

#include <cstdint>
#include <functional>

struct CUstream_st;

namespace tamias::cuda_emulator {

void Enqueue(CUstream_st* stream, std::function<void()> work);
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

}  // namespace tamias::cuda_emulator
