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

std::string ErrorOfMeeting(Rendezvous& rendezvous) {
  return ErrorOf([&] { rendezvous.Meet(); }, ErrorCode::kCancelled);
}

// What a thread hears that waits, or is about to, when the meeting is abandoned.
std::string ErrorOfWaiting(Rendezvous& rendezvous) {
  std::string error;
  {
    const std::jthread waiting([&] { error = ErrorOfMeeting(rendezvous); });
    rendezvous.Abandon();
  }
  return error;
}

TEST(Rendezvous, NobodyWaitsForAThreadThatFailed) {
  Rendezvous rendezvous(3);
  const std::string error = ErrorOfWaiting(rendezvous);
  EXPECT_EQ(error, "another thread of the same work has failed");
  EXPECT_EQ(ErrorOfMeeting(rendezvous), error) << "later";
}

// Of two threads both come, but one had to go by then.
TEST(Rendezvous, NoMeetingTakesPlaceAfterAnOutsiderAbandonedIt) {
  Rendezvous rendezvous(2);
  const std::string first = ErrorOfWaiting(rendezvous);
  EXPECT_NE(first, "");
  EXPECT_EQ(ErrorOfMeeting(rendezvous), first);
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
