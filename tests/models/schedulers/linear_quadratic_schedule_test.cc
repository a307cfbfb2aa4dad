#include "models/schedulers/linear_quadratic_schedule.h"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tamias/error.h"
#include "tests/support/fixture.h"

namespace tamias {
namespace {

TEST(LinearQuadraticSigmas, AgreesWithDiffusers) {
  const SafetensorsFile cases(FixtureFolder("flow-match-euler") / "cases.safetensors");
  for (const int steps : {2, 3, 7, 20, 50}) {
    SCOPED_TRACE(steps);
    const std::vector<double> sigmas = LinearQuadraticSigmas(steps);
    ASSERT_EQ(static_cast<int>(sigmas.size()), steps);
    const float* expected = cases.Get(fmt::format("mochi.{}.given", steps)).data<float>();
    for (int i = 0; i < steps; ++i) {
      EXPECT_NEAR(sigmas[static_cast<size_t>(i)], expected[i], 1e-7) << i;  // recorded as fp32
    }
  }
}

TEST(LinearQuadraticSigmas, FirstHalfTakesAwayTheThreshold) {
  const std::vector<double> sigmas = LinearQuadraticSigmas(64, 0.1);
  EXPECT_EQ(sigmas.front(), 1.0);
  EXPECT_NEAR(sigmas[32], 0.9, 1e-12);
  EXPECT_NEAR(sigmas[0] - sigmas[1], sigmas[31] - sigmas[32], 1e-12);
}

TEST(LinearQuadraticSigmas, NeedsTwoSteps) {
  ExpectError(ErrorCode::kInvalidArgument, "at least 2, found 1", [] { LinearQuadraticSigmas(1); });
}

}  // namespace
}  // namespace tamias
