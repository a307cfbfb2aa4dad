// How often one key, or one address, may ask: at most so many requests in any minute. Threads may
// use it at once.
#pragma once

#include <chrono>
#include <cstddef>
#include <deque>
#include <map>
#include <mutex>
#include <string>

namespace tamias::serve {

class RateLimit {
 public:
  using Clock = std::chrono::steady_clock;

  // 0: any number.
  explicit RateLimit(size_t max_per_minute) : max_per_minute_(max_per_minute) {}

  // Counts a request of `who`. Above 0: it is one too many, is not counted, and after so many
  // seconds another will not be.
  int SecondsToWait(const std::string& who, Clock::time_point now = Clock::now());

 private:
  void ForgetIdle(Clock::time_point now);

  size_t max_per_minute_;
  std::mutex mutex_;
  std::map<std::string, std::deque<Clock::time_point>> requests_;  // of the last minute
};

}  // namespace tamias::serve
