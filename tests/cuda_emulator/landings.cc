// Copies on their way to mbarriers: see the header.
#include "tests/cuda_emulator/landings.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "tests/cuda_emulator/block.h"

namespace tamias::cuda_emulator {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

struct Landing {
  int64_t due;
  std::function<void()> arrive;
};

thread_local std::vector<std::deque<Landing>> landings;  // by thread
thread_local int64_t next_due = kNever;
thread_local bool some_wait = false;  // until no thread can go on, which lets all catch up

void LandFirst(std::deque<Landing>& queue) {
  const std::function<void()> arrive = std::move(queue.front().arrive);
  queue.pop_front();
  arrive();
}

}  // namespace

void BeginLandings() {
  landings.resize(ClusterThreads());
  for (std::deque<Landing>& queue : landings) queue.clear();
  next_due = kNever;
  some_wait = Draw(2) == 0;
}

int64_t DrawDelay() {
  constexpr uint64_t kLongest = 3000;
  switch (Draw(3)) {
    case 0:
      return 0;
    case 1:
      return static_cast<int64_t>(Draw(kLongest));
    default:
      return some_wait ? kNever : 0;
  }
}

void LandLater(unsigned thread, int64_t delay, std::function<void()> arrive) {
  std::deque<Landing>& queue = landings[thread];
  if (delay == 0 && queue.empty()) return arrive();
  const int64_t due = delay == kNever ? kNever : Turn() + delay;
  queue.push_back({queue.empty() ? due : std::max(due, queue.back().due), std::move(arrive)});
  next_due = std::min(next_due, queue.back().due);
}

void LandWhatIsDue() {
  if (Turn() < next_due) return;
  next_due = kNever;
  for (std::deque<Landing>& queue : landings) {
    while (!queue.empty() && queue.front().due <= Turn()) LandFirst(queue);
    if (!queue.empty()) next_due = std::min(next_due, queue.front().due);
  }
}

bool LandSomething() {
  const size_t first = Draw(landings.size());
  for (size_t i = 0; i < landings.size(); ++i) {
    std::deque<Landing>& queue = landings[(first + i) % landings.size()];
    if (queue.empty()) continue;
    LandFirst(queue);
    return true;
  }
  return false;
}

}  // namespace tamias::cuda_emulator
