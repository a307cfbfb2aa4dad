// A place where threads that work on one thing wait for each other.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace tamias {

class Rendezvous {
 public:
  explicit Rendezvous(int threads) : threads_(threads) {}
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  // Returns when all threads have come as often as this one. Throws kCancelled where the meeting
  // was abandoned before they had.
  void Meet();
  // By whoever knows that not all will come, one of the threads or another: nobody waits any more,
  // and no meeting takes place until the next Reset.
  void Abandon() noexcept;
  // All are expected again. Nobody may be waiting.
  void Reset();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int threads_;
  int come_ = 0;
  int64_t meetings_ = 0;
  bool is_abandoned_ = false;
};

}  // namespace tamias
