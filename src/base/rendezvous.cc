// Threads that wait for each other: see the header.
#include "base/rendezvous.h"

#include "base/check.h"

namespace tamias {

void Rendezvous::Meet() {
  std::unique_lock lock(mutex_);
  const int64_t meeting = meetings_;
  if (!is_abandoned_ && ++come_ == threads_) {
    come_ = 0;
    ++meetings_;
    changed_.notify_all();
    return;
  }
  changed_.wait(lock, [&] { return is_abandoned_ || meetings_ != meeting; });
  if (meetings_ == meeting) {
    Fail(ErrorCode::kCancelled, "another thread of the same work has failed");
  }
}

void Rendezvous::Abandon() noexcept {
  const std::lock_guard lock(mutex_);
  is_abandoned_ = true;
  changed_.notify_all();
}

void Rendezvous::Reset() {
  const std::lock_guard lock(mutex_);
  come_ = 0;
  is_abandoned_ = false;
}

}  // namespace tamias
