#include "tamias/placement.h"

#include <gmock/gmock.h>

#include "base/check.h"
#include "base/machine.h"
#include "tests/support/errors.h"

namespace tamias {
namespace {

std::string ParseError(const std::string& text) {
  return ArgumentErrorOf([&] { ParseDevice(text); });
}

TEST(Placement, DevicesAreReadAsTheyAreNamed) {
  EXPECT_EQ(ParseDevice("cpu"), Device());
  EXPECT_EQ(ParseDevice("cuda"), (Device{DeviceType::kCuda, 0}));
  EXPECT_EQ(ParseDevice("cuda:12"), (Device{DeviceType::kCuda, 12}));
  for (const char* name : {"cpu", "cuda:0", "cuda:3"}) EXPECT_EQ(Name(ParseDevice(name)), name);
}

TEST(Placement, OtherDevicesAreRefused) {
  EXPECT_EQ(ParseError("gpu"), "device: expected cpu, cuda or cuda:<number>, found 'gpu'");
  for (const char* text :
       {"", "CPU", "cuda:", "cuda:-1", "cuda:1x", "cuda:99999999999", "cuda 1"}) {
    EXPECT_NE(ParseError(text), "") << text;
  }
}

TEST(Placement, ActivationsOnAGpuHaveTheTypeOfTheWeights) {
  const Device gpu = {DeviceType::kCuda, 1};
  EXPECT_EQ(PlacementOn(gpu, DType::kF16).activation_dtype, DType::kF16);
  EXPECT_EQ(PlacementOn(gpu, DType::kBF16).activation_dtype, DType::kBF16);
  EXPECT_EQ(PlacementOn(gpu, DType::kF32).activation_dtype, DType::kBF16);
}

TEST(Placement, ActivationsOnTheCpuHaveTheTypeOfTheWeightsWhereItMultipliesBFloat16) {
  EXPECT_EQ(PlacementOn({}, DType::kF16).activation_dtype, DType::kF32);
  EXPECT_EQ(PlacementOn({}, DType::kF32).activation_dtype, DType::kF32);
  EXPECT_EQ(PlacementOn({}, DType::kBF16).activation_dtype,
            HasBFloat16Instructions() ? DType::kBF16 : DType::kF32);
}

TEST(Placement, ActivationsHaveTheTypeThatIsAskedFor) {
  for (const DType weights : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(PlacementOn({}, weights, DType::kF32).activation_dtype, DType::kF32);
    EXPECT_EQ(PlacementOn({}, weights, DType::kBF16).activation_dtype, DType::kBF16);
    EXPECT_EQ(PlacementOn({DeviceType::kCuda, 1}, weights, DType::kBF16).activation_dtype,
              DType::kBF16);
  }
  EXPECT_THROW(PlacementOn({DeviceType::kCuda, 1}, DType::kF32, DType::kF32), Error);
}

TEST(Placement, PreparedWeightsAreKeptWhereTheyCostNoneOfWhatIsSaved) {
  Placement placement;
  EXPECT_TRUE(placement.KeepsPreparedWeights());
  placement.streams_weights = true;
  EXPECT_FALSE(placement.KeepsPreparedWeights());
  placement = {};
  placement.weight_dtype = DType::kF8E4M3;
  EXPECT_FALSE(placement.KeepsPreparedWeights());
}

TEST(Placement, TypesAreReadAsTheyAreNamed) {
  EXPECT_EQ(ParseWeightType("auto"), std::nullopt);
  EXPECT_EQ(ParseWeightType("fp8_e4m3"), DType::kF8E4M3);
  EXPECT_EQ(ArgumentErrorOf([] { ParseWeightType("bf16"); }),
            "weight_dtype: expected auto or fp8_e4m3, found 'bf16'");
  EXPECT_EQ(ParseActivationType("auto"), std::nullopt);
  EXPECT_EQ(ParseActivationType("f32"), DType::kF32);
  EXPECT_EQ(ParseActivationType("bf16"), DType::kBF16);
  EXPECT_EQ(ArgumentErrorOf([] { ParseActivationType("f16"); }),
            "dtype: expected auto, f32 or bf16, found 'f16'");
}

}  // namespace
}  // namespace tamias
