#include "pipeline/tune_settings.h"

#include <gmock/gmock.h>

#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;

// Predictions of `steps` that differ at random.
PredictionTrace Trace(int steps) {
  PredictionTrace trace;
  for (int step = 0; step < steps; ++step) {
    const Tensor values = RandomTensor({8}, static_cast<uint64_t>(step));
    trace.Add({values.data<float>(), 8}, 1 - step / 12.0, 1 - (step + 1) / 12.0);
  }
  return trace;
}

SparsityConfig Config(const std::vector<std::string>& overrides) {
  SparsityConfig config = SparsityConfig::Dense();
  for (const std::string& one : overrides) Apply(config, one);
  return config;
}

TEST(TuneSettings, TheTimidEndIsDense) {
  const PredictionTrace trace = Trace(12);
  EXPECT_THAT(TuneOverrides({}, {&trace, 1}),
              ElementsAre("steps=12", "step_caching.is_enabled=false", "attn.is_enabled=false",
                          "mlp.is_enabled=false"));
}

TEST(TuneSettings, APeriodSkipsAllButItsShareOfTheSteps) {
  const PredictionTrace trace = Trace(12);
  for (size_t period = 1; period < kTunePeriods.size(); ++period) {
    const SparsityConfig config = Config(TuneOverrides({.period = period}, {&trace, 1}));
    const int runs = (12 + kTunePeriods[period] / 2) / kTunePeriods[period];
    EXPECT_EQ(config.step_caching.skip_step_schedule.size(), static_cast<size_t>(12 - runs));
    EXPECT_FALSE(config.step_caching.skip_step_schedule.contains(0));
    EXPECT_FALSE(config.attn.is_enabled);
  }
}

TEST(TuneSettings, TheStepWhereAnotherTransformerTakesOverRuns) {
  const PredictionTrace trace = Trace(12);
  for (const int64_t restart : {1, 5, 11}) {
    const SparsityConfig config = Config(TuneOverrides({.period = 4}, {&trace, 1}, restart));
    EXPECT_FALSE(config.step_caching.skip_step_schedule.contains(restart)) << restart;
  }
}

TEST(TuneSettings, ADensityComputesItsShareAndFullStepsAreAmongThoseThatRun) {
  const PredictionTrace trace = Trace(12);
  const TuneChoice choice = {
      .period = 1, .density = 2, .reuse = StepReuse::kExtrapolate, .merge = AttentionMerge::kLse};
  const SparsityConfig config = Config(TuneOverrides(choice, {&trace, 1}));
  EXPECT_EQ(config.attn.top_keys, kTuneDensities[2].columns);
  EXPECT_EQ(config.mlp.top_keys, kTuneDensities[2].neurons);
  EXPECT_EQ(config.attn.merge, AttentionMerge::kLse);
  EXPECT_EQ(config.step_caching.reuse, StepReuse::kExtrapolate);
  ASSERT_TRUE(config.attn.full_step_schedule);
  EXPECT_THAT(*config.attn.full_step_schedule, Contains(0));
  for (const int64_t step : *config.attn.full_step_schedule) {
    EXPECT_FALSE(config.step_caching.skip_step_schedule.contains(step)) << step;
  }
  EXPECT_EQ(DescribeSetting(config, 12),
            "6 of 12 steps skipped (extrapolate), columns 20 % lse, neurons 40 %");
}

TEST(TuneSettings, KeysOfPartsThatAreOffAreNotInForce) {
  const SparsityConfig config = Config({"mlp.is_enabled=true", "mlp.top_keys=0.2"});
  const std::string setting = SettingInForce(config);
  for (const char* key :
       {"attn.top_keys=0.7", "attn.full_step_schedule=[0, 5]", "attn.merge=lse",
        "step_caching.reuse=extrapolate", "step_caching.skip_step_schedule=[3]"}) {
    SparsityConfig other = config;
    Apply(other, key);
    EXPECT_EQ(SettingInForce(other), setting) << key;
  }
  for (const char* key : {"mlp.top_keys=0.3", "attn.is_enabled=true", "steps=3"}) {
    SparsityConfig other = config;
    Apply(other, key);
    EXPECT_NE(SettingInForce(other), setting) << key;
  }
}

}  // namespace
}  // namespace tamias
