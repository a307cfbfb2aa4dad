#include "serve/model_catalog.h"

#include <gtest/gtest.h>

#include "tests/support/errors.h"

namespace tamias::serve {
namespace {

GenerationSettings Guided(double scale) {
  GenerationSettings settings;
  settings.true_cfg_scale = scale;
  return settings;
}

TEST(ModelCatalog, JobsWithoutGuidanceRunOnTheFirstOfSeveralDevices) {
  const MachineChoice two = {.device = "cuda:2,cuda:0"};
  EXPECT_EQ(two.DeviceFor(Guided(3)), "cuda:2,cuda:0");
  EXPECT_EQ(two.DeviceFor(Guided(1)), "cuda:2");
  EXPECT_EQ(MachineChoice{.device = "cuda"}.DeviceFor(Guided(3)), "cuda");
  EXPECT_EQ(MachineChoice().DeviceFor(Guided(1)), "cpu");
}

TEST(ModelCatalog, TakesTwoDevicesAtMost) {
  const MachineChoice three = {.device = "cuda:0,cuda:1,cuda:2"};
  EXPECT_EQ(
      ArgumentErrorOf([&] { ModelCatalog({}, {}, three, 0); }),
      "device: expected two GPUs at most, which make the two calls of a step with guidance at "
      "once, found 'cuda:0,cuda:1,cuda:2'");
}

}  // namespace
}  // namespace tamias::serve
