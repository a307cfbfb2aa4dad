#include "base/rendezvous.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/errors.h"

namespace tamias {
namespace {

TEST(Rendezvous, NobodyGoesOnBeforeAllHaveCome) {
  constexpr int kThreads = 4, kMeetings = 200;
  Rendezvous rendezvous(kThreads);
  std::atomic<int> come{0};
  std::atomic<bool> is_early{false};
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        for (int meeting = 1; meeting <= kMeetings; ++meeting) {
          ++come;
          rendezvous.Meet();
          if (come < kThreads * meeting) is_early = true;
        }
      });
    }
  }
  EXPECT_FALSE(is_early);
  EXPECT_EQ(come, kThreads * kMeetings);
}

TEST(Rendezvous, NobodyWaitsForAThreadThatFailed) {
  Rendezvous rendezvous(3);
  const auto meet = [&] { return ErrorOf([&] { rendezvous.Meet(); }, ErrorCode::kCancelled); };
  std::string error;
  {
    const std::jthread waiting([&] { error = meet(); });
    rendezvous.Abandon();
  }
  EXPECT_EQ(error, "another thread of the same work has failed");
  EXPECT_EQ(meet(), error) << "later";
}

// Of two threads both come, but one had to go by then.
TEST(Rendezvous, NoMeetingTakesPlaceAfterAnOutsiderAbandonedIt) {
  Rendezvous rendezvous(2);
  const auto meet = [&] { return ErrorOf([&] { rendezvous.Meet(); }, ErrorCode::kCancelled); };
  std::string first;
  {
    const std::jthread waiting([&] { first = meet(); });
    rendezvous.Abandon();
  }
  EXPECT_NE(first, "");
  EXPECT_EQ(meet(), first);
}

TEST(Rendezvous, AllAreExpectedAgainAfterAReset) {
  Rendezvous rendezvous(2);
  rendezvous.Abandon();
  EXPECT_NE(ErrorOf([&] { rendezvous.Meet(); }), "");
  rendezvous.Reset();
  const std::jthread other([&] { rendezvous.Meet(); });
  rendezvous.Meet();
}

}  // namespace
}  // namespace tamias
