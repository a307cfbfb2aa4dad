// The times of the last minute's requests, for each who asks.
#include "rate_limit.h"

namespace tamias::serve {
namespace {

constexpr auto kMinute = std::chrono::minutes(1);
constexpr size_t kMaxIdle = 1024;  // addresses that are remembered without need

}  // namespace

int RateLimit::SecondsToWait(const std::string& who, Clock::time_point now) {
  if (max_per_minute_ == 0) return 0;
  const std::scoped_lock lock(mutex_);
  if (requests_.size() >= kMaxIdle && !requests_.contains(who)) ForgetIdle(now);
  std::deque<Clock::time_point>& times = requests_[who];
  while (!times.empty() && times.front() + kMinute <= now) times.pop_front();
  if (times.size() < max_per_minute_) {
    times.push_back(now);
    return 0;
  }
  const auto wait = times.front() + kMinute - now;
  return static_cast<int>(std::chrono::ceil<std::chrono::seconds>(wait).count());
}

void RateLimit::ForgetIdle(Clock::time_point now) {
  std::erase_if(requests_, [&](const auto& entry) {
    return entry.second.empty() || entry.second.back() + kMinute <= now;
  });
}

}  // namespace tamias::serve
