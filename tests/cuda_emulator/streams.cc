// Queues of work: see the header. An event is a place in a queue; a piece of work that waits for
// one may begin when the queue has come past it.
#include "tests/cuda_emulator/streams.h"

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "tests/cuda_emulator/emulator.h"

struct CUstream_st {
  struct Piece {
    std::function<void()> work;            // empty: waits
    std::shared_ptr<CUstream_st> awaited;  // for this queue
    uint64_t position = 0;                 // to have done so many pieces
  };
  std::deque<Piece> pieces;
  uint64_t done = 0, enqueued = 0;
  int device = 0;
  uint64_t known = 0;  // so many pieces the host has waited for
};

struct CUevent_st {
  int device = 0;
  std::shared_ptr<CUstream_st> stream;  // null: not recorded
  uint64_t position = 0;
};

namespace tamias::cuda_emulator {
namespace {

std::recursive_mutex mutex;
std::vector<std::shared_ptr<CUstream_st>> streams;
bool is_shuffled = false;
std::mt19937_64 random_bits;

bool is_counting = false;
std::map<std::string, int64_t> launches;
int64_t host_waits = 0;

int Chosen() {
  int device = 0;
  cudaGetDevice(&device);
  return device;
}

std::shared_ptr<CUstream_st> Make(int device) {
  auto stream = streams.emplace_back(std::make_shared<CUstream_st>());
  stream->device = device;
  return stream;
}

// CUDA's default streams of a device, by the handles 0, 1 and 2 that stand for them, are one.
std::shared_ptr<CUstream_st> Find(cudaStream_t stream) {
  static std::map<int, std::shared_ptr<CUstream_st>> defaults;
  if (reinterpret_cast<uintptr_t>(stream) <= 2) {
    std::shared_ptr<CUstream_st>& one = defaults[Chosen()];
    if (one == nullptr) one = Make(Chosen());
    return one;
  }
  const auto found =
      std::ranges::find_if(streams, [&](const auto& one) { return one.get() == stream; });
  return found == streams.end() ? nullptr : *found;
}

bool CanRun(const CUstream_st& stream) {
  if (stream.pieces.empty()) return false;
  const CUstream_st::Piece& piece = stream.pieces.front();
  return piece.awaited == nullptr || piece.awaited->done >= piece.position;
}

void RunOne(CUstream_st& stream) {
  const CUstream_st::Piece piece = std::move(stream.pieces.front());
  stream.pieces.pop_front();
  ++stream.done;
  if (piece.work) piece.work();
}

void RunTo(CUstream_st& stream, uint64_t position) {
  while (stream.done < position) {
    const CUstream_st::Piece& piece = stream.pieces.front();
    if (piece.awaited != nullptr) RunTo(*piece.awaited, piece.position);
    RunOne(stream);
  }
}

// The host waits until so many pieces are done.
void WaitFor(CUstream_st& stream, uint64_t position) {
  RunTo(stream, position);
  if (stream.known >= position) return;
  ++host_waits;
  stream.known = position;
}

void RunAny() {
  while (random_bits() % 3 != 0) {
    std::vector<CUstream_st*> able;
    for (const auto& stream : streams) {
      if (CanRun(*stream)) able.push_back(stream.get());
    }
    if (able.empty()) return;
    RunOne(*able[random_bits() % able.size()]);
  }
}

void Append(CUstream_st& stream, CUstream_st::Piece piece) {
  stream.pieces.push_back(std::move(piece));
  ++stream.enqueued;
  RunAny();
}

}  // namespace

void Enqueue(cudaStream_t stream, const char* name, std::function<void()> work) {
  {
    const std::lock_guard lock(mutex);
    if (is_counting) ++launches[name];
    CUstream_st& queue = *Find(stream);
    if (is_shuffled) return Append(queue, {.work = std::move(work), .awaited = {}});
    queue.done = ++queue.enqueued;
  }
  work();
}

int DeviceOf(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  return Find(stream)->device;
}

void FinishAll() {
  const std::lock_guard lock(mutex);
  for (const auto& stream : streams) RunTo(*stream, stream->enqueued);
}

ShuffledStreams::ShuffledStreams(uint64_t seed) {
  const std::lock_guard lock(mutex);
  is_shuffled = true;
  random_bits.seed(seed);
}

ShuffledStreams::~ShuffledStreams() {
  const std::lock_guard lock(mutex);
  FinishAll();
  is_shuffled = false;
}

LaunchCounter::LaunchCounter() {
  const std::lock_guard lock(mutex);
  is_counting = true;
  launches.clear();
  host_waits = 0;
}

LaunchCounter::~LaunchCounter() {
  const std::lock_guard lock(mutex);
  is_counting = false;
}

std::map<std::string, int64_t> LaunchCounter::by_name() const {
  const std::lock_guard lock(mutex);
  return launches;
}

int64_t LaunchCounter::total() const {
  int64_t sum = 0;
  for (const auto& [name, count] : by_name()) sum += count;
  return sum;
}

int64_t LaunchCounter::waits() const {
  const std::lock_guard lock(mutex);
  return host_waits;
}

}  // namespace tamias::cuda_emulator

using namespace tamias::cuda_emulator;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const std::lock_guard lock(mutex);
  *stream = Make(Chosen()).get();
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  const std::shared_ptr<CUstream_st> queue = Find(stream);
  WaitFor(*queue, queue->enqueued);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  RunTo(*stream, stream->enqueued);
  std::erase_if(streams, [&](const auto& one) { return one.get() == stream; });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st{.device = Chosen(), .stream = {}};
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(mutex);
  const std::shared_ptr<CUstream_st> queue = Find(stream);
  if (queue->device != event->device) return cudaErrorInvalidValue;
  event->stream = queue;
  event->position = queue->enqueued;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(mutex);
  if (event->stream == nullptr || !is_shuffled) return cudaSuccess;
  Append(*Find(stream), {.work = {}, .awaited = event->stream, .position = event->position});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(mutex);
  if (event->stream != nullptr) WaitFor(*event->stream, event->position);
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
