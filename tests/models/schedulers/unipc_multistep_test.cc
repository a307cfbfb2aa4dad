#include "models/schedulers/unipc_multistep.h"

#include <fmt/format.h>

#include <gtest/gtest.h>

#include "tamias/error.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

constexpr int kStepCounts[] = {1, 2, 3, 7, 20, 50};

UniPcMultistepConfig LoadConfig(const std::string& name) {
  return UniPcMultistepConfig::FromJson(
      JsonObject::Load(FixtureFolder("unipc-multistep") / (name + ".json")), {});
}

class UniPcMultistepParity : public testing::TestWithParam<const char*> {};

TEST_P(UniPcMultistepParity, SigmasAndTimestepsAgreeWithDiffusers) {
  const SafetensorsFile cases(FixtureFolder("unipc-multistep") / "cases.safetensors");
  for (const int steps : kStepCounts) {
    const std::string name = fmt::format("{}.{}", GetParam(), steps);
    SCOPED_TRACE(name);
    const UniPcMultistep scheduler(LoadConfig(GetParam()), ScheduleRequest{.num_steps = steps});
    ASSERT_EQ(scheduler.num_steps(), steps);
    const float* sigmas = cases.Get(name + ".sigmas").data<float>();
    const float* timesteps = cases.Get(name + ".timesteps").data<float>();
    for (int i = 0; i < steps; ++i) {
      EXPECT_EQ(scheduler.sigma(i), sigmas[i]);
      EXPECT_EQ(scheduler.timestep(i), timesteps[i]);
    }
    EXPECT_EQ(scheduler.sigma(steps), 0.0f);
  }
}

TEST_P(UniPcMultistepParity, StepsAgreeWithDiffusers) {
  const SafetensorsFile cases(FixtureFolder("unipc-multistep") / "cases.safetensors");
  Context context;
  for (const int steps : kStepCounts) {
    const std::string name = fmt::format("{}.{}", GetParam(), steps);
    SCOPED_TRACE(name);
    UniPcMultistep scheduler(LoadConfig(GetParam()), ScheduleRequest{.num_steps = steps});
    Tensor sample = Tensor::CopyOf(cases.Get(name + ".sample"));
    const ConstTensorView predictions = cases.Get(name + ".predictions");
    for (int i = 0; i < steps; ++i) {
      scheduler.Step(context, i, predictions.Select(0, i), sample);
    }
    // diffusers solves for the corrector's weights in fp32, where a step of h loses 1 / h^2 units
    // in the last place; here it is double.
    EXPECT_LT(RelativeL2(sample, cases.Get(name + ".result")), 2e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(, UniPcMultistepParity, testing::Values("wan-480p", "wan-720p"));

TEST(UniPcMultistep, RefusesNoSteps) {
  EXPECT_THROW(UniPcMultistep({}, ScheduleRequest{.num_steps = 0}), Error);
}

}  // namespace
}  // namespace tamias
