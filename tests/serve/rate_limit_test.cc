#include "serve/rate_limit.h"

#include <gtest/gtest.h>

#include <string>

namespace tamias::serve {
namespace {

using std::chrono::seconds;

TEST(RateLimit, AllowsSoManyInAnyMinute) {
  RateLimit limit(2);
  const RateLimit::Clock::time_point start{};
  EXPECT_EQ(limit.SecondsToWait("a", start), 0);
  EXPECT_EQ(limit.SecondsToWait("a", start + seconds(20)), 0);
  EXPECT_EQ(limit.SecondsToWait("a", start + seconds(50)), 10);
  EXPECT_EQ(limit.SecondsToWait("a", start + seconds(60)), 0);
  EXPECT_EQ(limit.SecondsToWait("a", start + seconds(61)), 19);
}

TEST(RateLimit, CountsEachWhoAsks) {
  RateLimit limit(1);
  const RateLimit::Clock::time_point start{};
  EXPECT_EQ(limit.SecondsToWait("a", start), 0);
  EXPECT_EQ(limit.SecondsToWait("b", start), 0);
  EXPECT_GT(limit.SecondsToWait("a", start), 0);
  EXPECT_GT(limit.SecondsToWait("b", start), 0);
}

TEST(RateLimit, StillKnowsWhoAskedAmongMany) {
  RateLimit limit(1);
  const RateLimit::Clock::time_point start{};
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(limit.SecondsToWait(std::to_string(i), start + seconds(i / 100)), 0);
  }
  EXPECT_GT(limit.SecondsToWait("4999", start + seconds(50)), 0);
}

TEST(RateLimit, OfNoneAllowsAnyNumber) {
  RateLimit limit(0);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limit.SecondsToWait("a"), 0);
}

}  // namespace
}  // namespace tamias::serve
