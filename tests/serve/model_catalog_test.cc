#include "serve/model_catalog.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tamias::serve
