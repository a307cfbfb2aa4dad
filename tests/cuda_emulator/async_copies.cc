// cp.async: see the header.
#include "tests/cuda_emulator/async_copies.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

#include "tests/cuda_emulator/async_proxy.h"
#include "tests/cuda_emulator/block.h"

namespace tamias::cuda_emulator {
namespace {

constexpr int kNaNByte = 0xFF;
constexpr size_t kCopyBytes = 16;

using Group = std::vector<std::shared_ptr<CopyBatch>>;

struct ThreadCopies {
  std::vector<CopyBatch::Copy> latest;  // in no batch yet
  Group open;                           // since the last commit
  std::vector<Group> groups;            // committed, oldest first
};

thread_local std::vector<ThreadCopies> threads;  // of the block

ThreadCopies& OfThisThread() { return threads[CurrentThread()]; }

void CloseBatch(ThreadCopies& thread) {
  if (thread.latest.empty()) return;
  thread.open.push_back(
      std::make_shared<CopyBatch>(CopyBatch{std::exchange(thread.latest, {}), CurrentThread()}));
}

}  // namespace

void BeginCopies() {
  threads.resize(ClusterThreads());
  for (ThreadCopies& thread : threads) {
    thread.latest.clear();
    thread.open.clear();
    thread.groups.clear();
  }
}

void AsyncCopy(void* shared, const void* global, int bytes) {
  CheckAligned("cp.async to shared memory", shared, kCopyBytes);
  CheckAligned("cp.async from global memory", global, kCopyBytes);
  std::memset(shared, kNaNByte, kCopyBytes);
  NoteCopyStarted(shared, kCopyBytes);
  OfThisThread().latest.push_back({shared, global, bytes});
  ++LastLaunch().async_copies;
}

void AsyncCommit() {
  ThreadCopies& thread = OfThisThread();
  CloseBatch(thread);
  thread.groups.push_back(std::exchange(thread.open, {}));
}

void AsyncWait(int groups_left) {
  std::vector<Group>& groups = OfThisThread().groups;
  const auto left = std::min(groups.size(), static_cast<size_t>(groups_left));
  const auto end = groups.end() - static_cast<std::ptrdiff_t>(left);
  for (auto group = groups.begin(); group != end; ++group) {
    for (const auto& batch : *group) Land(*batch);
  }
  groups.erase(groups.begin(), end);
}

void Land(CopyBatch& batch) {
  if (std::exchange(batch.has_landed, true)) return;
  for (const CopyBatch::Copy& copy : batch.copies) {
    std::memset(copy.to, 0, kCopyBytes);
    if (copy.bytes > 0) std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.bytes));
    NoteWritten(copy.to, kCopyBytes, batch.thread);
  }
}

std::vector<std::shared_ptr<CopyBatch>> CopiesInFlight() {
  ThreadCopies& thread = OfThisThread();
  CloseBatch(thread);
  Group found;
  const auto take = [&](const Group& group) {
    for (const auto& batch : group) {
      if (!batch->has_landed) found.push_back(batch);
    }
  };
  for (const Group& group : thread.groups) take(group);
  take(thread.open);
  return found;
}

}  // namespace tamias::cuda_emulator
