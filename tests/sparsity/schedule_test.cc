#include "tamias/sparsity/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace tamias {
namespace {

// One letter a step: F both full, a attention only, m MLP only, - none, x skipped.
std::string Table(const SparsityConfig& config, int64_t steps, int64_t restart = 0) {
  const StepSchedule schedule(config, restart);
  std::string table;
  for (int64_t step = 0; step < steps; ++step) {
    const StepPlan plan = schedule.At(step);
    table += plan.is_skipped                              ? 'x'
             : plan.attention_is_full && plan.mlp_is_full ? 'F'
             : plan.attention_is_full                     ? 'a'
             : plan.mlp_is_full                           ? 'm'
                                                          : '-';
  }
  return table;
}

SparsityConfig Every(int64_t attention, int64_t mlp) {
  SparsityConfig config;
  config.attn.full_step_every = attention;
  config.mlp.full_step_every = mlp;
  return config;
}

TEST(StepSchedule, IsFullOnTheFirstTwoStepsAndEveryNth) {
  EXPECT_EQ(Table(Every(10, 10), 22), "Fa--------F---------F-");
}

TEST(StepSchedule, AttentionAndMlpHaveTheirOwnPeriods) {
  EXPECT_EQ(Table(Every(5, 3), 16), "Fa-m-am--ma-m--F");
}

TEST(StepSchedule, AScheduleReplacesThePeriod) {
  SparsityConfig config = Every(3, 50);
  config.attn.full_step_schedule = {0, 1, 4, 7};
  EXPECT_EQ(Table(config, 10), "Fa--a--a--");
}

TEST(StepSchedule, TheFirstTwoStepsAreFullEvenWhenAScheduleLeavesThemOut) {
  SparsityConfig config = Every(3, 50);
  config.attn.full_step_schedule = {4};
  EXPECT_EQ(Table(config, 6), "Fa--a-");
  config.attn.full_step_schedule = std::set<int64_t>{};
  EXPECT_EQ(Table(config, 6), "Fa----");
}

TEST(StepSchedule, AsManyFirstStepsAreFullAsTheColumnSumsAndTheCacheNeed) {
  SparsityConfig config = Every(10, 50);
  config.attn.full_step_schedule.emplace();
  config.attn.merge = AttentionMerge::kPooled;
  EXPECT_EQ(Table(config, 4), "Fa--") << "exact sums come from a full step";
  config.attn.column_sums = ColumnSums::kPooled;
  EXPECT_EQ(Table(config, 4), "m---");
  EXPECT_EQ(StepSchedule(config).At(0).kind, StepKind::kSparse);
  config.attn.merge = AttentionMerge::kLse;
  EXPECT_EQ(Table(config, 4), "F---");
  config.attn.merge = AttentionMerge::kPooled;
  config.attn.full_step_schedule = {2};
  EXPECT_EQ(Table(config, 4), "m-a-");
}

TEST(StepSchedule, AFullStepThatIsSkippedMovesToTheNextThatRuns) {
  SparsityConfig config = Every(5, 4);
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {0, 1, 4, 5, 10, 11};
  EXPECT_EQ(Table(config, 14), "Fxa-xxF-m-xxF-");
}

TEST(StepSchedule, SkipsNothingWhenStepCachingIsDisabled) {
  SparsityConfig config = Every(10, 10);
  config.step_caching.skip_step_schedule = {2, 3};
  EXPECT_EQ(Table(config, 5), "Fa---");
}

TEST(StepSchedule, AnotherModelBeginsAsTheFirstDid) {
  EXPECT_EQ(Table(Every(10, 10), 22, 5), "Fa---Fa---F---------F-");
  SparsityConfig config = Every(10, 50);
  config.attn.full_step_schedule.emplace();
  EXPECT_EQ(Table(config, 9, 1), "FFa------") << "the first has one step";
  config.attn.merge = AttentionMerge::kPooled;
  config.attn.column_sums = ColumnSums::kPooled;
  EXPECT_EQ(Table(config, 6, 3), "m--m--") << "no step need be full";
}

TEST(StepSchedule, AnotherModelsFirstStepIsNeverSkipped) {
  SparsityConfig config = Every(5, 50);
  config.step_caching.is_enabled = true;
  config.step_caching.skip_step_schedule = {1, 4, 5, 6, 7, 8, 9, 10};
  EXPECT_EQ(Table(config, 13, 0), "Fxa-xxxxxxxa-");
  EXPECT_EQ(Table(config, 13, 6), "Fxa-xxFxxxxa-");
}

TEST(StepSchedule, PublishedVideoScheduleRunsTwentyFiveOfFiftySteps) {
  SparsityConfig config;
  config.step_caching.is_enabled = true;
  const std::string table = Table(config, 50);
  EXPECT_EQ(std::ranges::count(table, 'x'), 25);
}

TEST(StepSchedule, KindIsThatOfAttentionFirstThenOfTheMlp) {
  SparsityConfig config = Every(5, 3);
  EXPECT_EQ(StepSchedule(config).At(3).kind, StepKind::kSparse);
  EXPECT_EQ(StepSchedule(config).At(5).kind, StepKind::kFull);
  config.attn.is_enabled = false;
  EXPECT_EQ(StepSchedule(config).At(3).kind, StepKind::kFull);
  EXPECT_EQ(StepSchedule(config).At(5).kind, StepKind::kSparse);
  EXPECT_EQ(StepSchedule(SparsityConfig::Dense()).At(5).kind, StepKind::kFull);
}

TEST(StepSchedule, KindsHaveNames) {
  EXPECT_EQ(Name(StepKind::kFull), "full");
  EXPECT_EQ(Name(StepKind::kSparse), "sparse");
  EXPECT_EQ(Name(StepKind::kSkip), "skip");
}

}  // namespace
}  // namespace tamias
