#include "serve/job_queue.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace tamias::serve {
namespace {

using testing::ElementsAre;

// The ids in the order in which one worker takes them.
std::vector<std::string> Order(JobQueue& queue) {
  std::vector<std::string> order;
  Warmth warm;
  while (const auto job = queue.Pop(warm)) order.push_back(job->id);
  return order;
}

TEST(JobQueue, IsFirstComeFirstServedForOneOwner) {
  JobQueue queue(10, 10);
  for (const char* id : {"1", "2", "3"}) queue.Push({id, "", "", id});
  EXPECT_THAT(Order(queue), ElementsAre("1", "2", "3"));
}

TEST(JobQueue, LetsOwnersTakeTurns) {
  JobQueue queue(10, 10);
  for (const char* id : {"a1", "a2", "a3", "b1", "b2", "c1"}) {
    queue.Push({id, std::string(1, id[0]), "", id});
  }
  EXPECT_THAT(Order(queue), ElementsAre("a1", "b1", "c1", "a2", "b2", "a3"));
}

TEST(JobQueue, OwnerWhoWasJustServedWaitsForANewcomer) {
  JobQueue queue(10, 10);
  queue.Push({"a1", "a", "", "1"});
  queue.Push({"a2", "a", "", "2"});
  Warmth warm;
  EXPECT_EQ(queue.Pop(warm)->id, "a1");
  queue.Push({"b1", "b", "", "3"});
  EXPECT_EQ(queue.Pop(warm)->id, "b1");
}

TEST(JobQueue, KeepsAShapeWarmForFourJobsAndNoLonger) {
  JobQueue queue(20, 20);
  for (int i = 0; i < 6; ++i) {
    queue.Push({fmt::format("x{}", i), "a", "", "x"});
    queue.Push({fmt::format("y{}", i), "b", "", "y"});
  }
  EXPECT_THAT(Order(queue),
              ElementsAre("x0", "x1", "x2", "x3", "y0", "y1", "y2", "y3", "x4", "x5", "y4", "y5"));
}

TEST(JobQueue, KeepsAModelForFourJobsWhereNoShapeIsWarm) {
  JobQueue queue(20, 20);
  for (int i = 0; i < 6; ++i) {
    queue.Push({fmt::format("x{}", i), "a", "x", fmt::format("x{}", i)});
    queue.Push({fmt::format("y{}", i), "b", "y", fmt::format("y{}", i)});
  }
  EXPECT_THAT(Order(queue),
              ElementsAre("x0", "x1", "x2", "x3", "y0", "y1", "y2", "y3", "x4", "x5", "y4", "y5"));
}

TEST(JobQueue, PrefersTheWarmShapeToItsModel) {
  JobQueue queue(20, 20);
  queue.Push({"1", "", "x", "x small"});
  queue.Push({"2", "", "x", "x large"});
  queue.Push({"3", "", "x", "x small"});
  queue.Push({"4", "", "y", "y"});
  EXPECT_THAT(Order(queue), ElementsAre("1", "3", "2", "4"));
}

TEST(JobQueue, WhatIsPutBackIsNextAndRunsAlone) {
  JobQueue queue(10, 10);
  for (const char* id : {"1", "2", "3", "4"}) queue.Push({id, id, "", id});
  Warmth warm;
  for (int i = 0; i < 3; ++i) queue.Pop(warm);
  queue.PutBack("2");
  queue.PutBack("3");
  EXPECT_EQ(queue.PositionOf("2"), 0U);
  EXPECT_EQ(queue.PositionOf("3"), 1U);
  EXPECT_EQ(queue.PositionOf("4"), 2U);
  EXPECT_FALSE(queue.HasNext());
  EXPECT_EQ(queue.Pop(warm), std::nullopt);
  queue.Leave("1");
  EXPECT_EQ(queue.running(), 0U);
  for (const char* id : {"2", "3"}) {
    const auto job = queue.Pop(warm);
    ASSERT_TRUE(job);
    EXPECT_TRUE(job->id == id && job->runs_alone);
    EXPECT_FALSE(queue.HasNext());
    EXPECT_FALSE(queue.RanBesideOthers(id));
    queue.Leave(id);
  }
  const auto job = queue.Pop(warm);
  ASSERT_TRUE(job);
  EXPECT_TRUE(job->id == "4" && !job->runs_alone);
}

TEST(JobQueue, OthersGoOnWhereWhatWasPutBackIsRemoved) {
  JobQueue queue(10, 10);
  for (const char* id : {"1", "2", "3"}) queue.Push({id, "", "", id});
  Warmth warm;
  queue.Pop(warm);
  queue.Pop(warm);
  queue.PutBack("2");
  EXPECT_FALSE(queue.HasNext());
  EXPECT_TRUE(queue.Remove("2"));
  EXPECT_TRUE(queue.HasNext());
}

TEST(JobQueue, KnowsWhatRanBesideOthers) {
  JobQueue queue(10, 10);
  for (const char* id : {"1", "2", "3"}) queue.Push({id, "", "", id});
  Warmth warm;
  queue.Pop(warm);
  EXPECT_FALSE(queue.RanBesideOthers("1"));
  queue.Pop(warm);
  EXPECT_TRUE(queue.RanBesideOthers("1") && queue.RanBesideOthers("2"));
  queue.Leave("1");
  EXPECT_TRUE(queue.RanBesideOthers("2"));
  queue.Leave("2");
  queue.Pop(warm);
  EXPECT_FALSE(queue.RanBesideOthers("3"));
}

TEST(JobQueue, RefusesBeyondCapacityAndBeyondAnOwnersShare) {
  JobQueue queue(3, 2);
  queue.Push({"a1", "a", "", ""});
  EXPECT_TRUE(queue.HasRoom("a"));
  queue.Push({"a2", "a", "", ""});
  EXPECT_FALSE(queue.HasRoom("a"));
  EXPECT_TRUE(queue.HasRoom("b"));
  queue.Push({"b1", "b", "", ""});
  EXPECT_FALSE(queue.HasRoom("c"));
}

TEST(JobQueue, TellsPositionsAndForgetsWhatIsRemoved) {
  JobQueue queue(10, 10);
  for (const char* id : {"1", "2", "3"}) queue.Push({id, "", "", ""});
  EXPECT_EQ(queue.PositionOf("3"), 2U);
  EXPECT_TRUE(queue.Remove("2"));
  EXPECT_FALSE(queue.Remove("2"));
  EXPECT_EQ(queue.PositionOf("3"), 1U);
  EXPECT_EQ(queue.PositionOf("2"), std::nullopt);
  EXPECT_EQ(queue.size(), 2U);
}

}  // namespace
}  // namespace tamias::serve
