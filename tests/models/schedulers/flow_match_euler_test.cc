#include "models/schedulers/flow_match_euler.h"

#include <fmt/format.h>

#include <gtest/gtest.h>

#include "tamias/error.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

// A few units in the last place of fp32: the arithmetic is diffusers' step by step, exp is not.
constexpr float kTolerance = 3e-7f;

FlowMatchEulerConfig LoadConfig(const std::string& name) {
  return FlowMatchEulerConfig::FromJson(
      JsonObject::Load(FixtureFolder("flow-match-euler") / (name + ".json")),
      {.shifts_by_tokens = true});
}

// As FLUX asks for its steps.
ScheduleRequest Even(int num_steps, int64_t image_tokens) {
  return {.num_steps = num_steps, .sigmas = EvenSigmas(num_steps), .image_tokens = image_tokens};
}

ScheduleRequest Stated(const std::vector<double>& sigmas) {
  return {.num_steps = static_cast<int>(sigmas.size()), .sigmas = sigmas};
}

class FlowMatchEulerParity : public testing::TestWithParam<const char*> {};

TEST_P(FlowMatchEulerParity, SigmasAndTimestepsAgreeWithDiffusers) {
  const FlowMatchEulerConfig config = LoadConfig(GetParam());
  const SafetensorsFile cases(FixtureFolder("flow-match-euler") / "cases.safetensors");
  int compared = 0;
  for (const auto& [steps, tokens] :
       {std::pair{1, 256}, std::pair{4, 1024}, std::pair{50, 4096}, std::pair{7, 11520}}) {
    const std::string name = fmt::format("{}.{}.{}", GetParam(), steps, tokens);
    if (!cases.Has(name + ".sigmas")) continue;
    SCOPED_TRACE(name);
    const FlowMatchEuler scheduler(config, Even(steps, tokens));
    ASSERT_EQ(scheduler.num_steps(), steps);
    const float* sigmas = cases.Get(name + ".sigmas").data<float>();
    const float* timesteps = cases.Get(name + ".timesteps").data<float>();
    for (int i = 0; i < steps; ++i) {
      EXPECT_NEAR(scheduler.sigma(i), sigmas[i], kTolerance);
      EXPECT_NEAR(scheduler.timestep(i), timesteps[i], 1000 * kTolerance);
    }
    EXPECT_EQ(scheduler.sigma(steps), 0.0f);
    ++compared;
  }
  EXPECT_GE(compared, 3);
}

TEST_P(FlowMatchEulerParity, StepsAgreeWithDiffusers) {
  const std::string name = GetParam();
  const SafetensorsFile cases(FixtureFolder("flow-match-euler") / "cases.safetensors");
  FlowMatchEuler scheduler(LoadConfig(name), Even(7, 11520));
  Context context;
  Tensor sample = Tensor::CopyOf(cases.Get(name + ".sample"));
  const ConstTensorView predictions = cases.Get(name + ".predictions");
  for (int i = 0; i < scheduler.num_steps(); ++i) {
    scheduler.Step(context, i, predictions.Select(0, i), sample);
  }
  EXPECT_LT(RelativeL2(sample, cases.Get(name + ".result")), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(, FlowMatchEulerParity,
                         testing::Values("dynamic", "dynamic-linear", "static", "plain",
                                         "terminal"));

void ExpectSchedule(const FlowScheduler& scheduler, const SafetensorsFile& cases,
                    const std::string& name, int steps) {
  SCOPED_TRACE(name);
  ASSERT_EQ(scheduler.num_steps(), steps);
  const float* sigmas = cases.Get(name + ".sigmas").data<float>();
  const float* timesteps = cases.Get(name + ".timesteps").data<float>();
  for (int i = 0; i < steps; ++i) {
    EXPECT_NEAR(scheduler.sigma(i), sigmas[i], kTolerance);
    EXPECT_NEAR(scheduler.timestep(i), timesteps[i], 1000 * kTolerance);
  }
  EXPECT_EQ(scheduler.sigma(steps), sigmas[steps]);
}

// The sigmas that MochiPipeline hands over.
std::vector<double> Given(const SafetensorsFile& cases, int steps) {
  const float* given = cases.Get(fmt::format("mochi.{}.given", steps)).data<float>();
  return {given, given + steps};
}

TEST(FlowMatchEuler, SchedulesOfVideoPipelinesAgreeWithDiffusers) {
  const SafetensorsFile cases(FixtureFolder("flow-match-euler") / "cases.safetensors");
  for (const int steps : {1, 2, 3, 7, 20, 50}) {
    const FlowMatchEulerConfig hunyuan = LoadConfig("hunyuan-video");
    ExpectSchedule(FlowMatchEuler(hunyuan, Stated(EvenSigmasToZero(steps))), cases,
                   fmt::format("hunyuan-video.{}", steps), steps);
    const FlowMatchEulerConfig wan = LoadConfig("wan");
    ExpectSchedule(FlowMatchEuler(wan, {.num_steps = steps}), cases, fmt::format("wan.{}", steps),
                   steps);
    if (steps == 1) continue;  // Mochi's schedule needs two
    const std::string mochi = fmt::format("mochi.{}", steps);
    ExpectSchedule(FlowMatchEuler(LoadConfig("mochi"), Stated(Given(cases, steps))), cases, mochi,
                   steps);
  }
}

TEST(FlowMatchEuler, InvertedStepsAgreeWithDiffusers) {
  const SafetensorsFile cases(FixtureFolder("flow-match-euler") / "cases.safetensors");
  FlowMatchEuler scheduler(LoadConfig("mochi"), Stated(Given(cases, 50)));
  Context context;
  Tensor sample = Tensor::CopyOf(cases.Get("mochi.sample"));
  for (int i = 0; i < 50; ++i) {
    scheduler.Step(context, i, cases.Get("mochi.predictions").Select(0, i), sample);
  }
  EXPECT_LT(RelativeL2(sample, cases.Get("mochi.result")), 1e-6);
}

TEST(FlowMatchEuler, RefusesNoStepsAndNoTokens) {
  EXPECT_THROW(FlowMatchEuler({}, {.num_steps = 0}), Error);
  EXPECT_THROW(FlowMatchEuler(LoadConfig("dynamic"), Even(1, 0)), Error);
}

}  // namespace
}  // namespace tamias
