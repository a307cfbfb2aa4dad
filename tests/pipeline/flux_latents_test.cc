#include "pipeline/flux_latents.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace tamias {
namespace {

constexpr FluxLatentShape kShape{.channels = 3, .height = 4, .width = 6};

TEST(FluxLatents, PackingPutsTwoByTwoPixelsIntoAToken) {
  std::vector<float> noise(3 * 4 * 6);
  TorchNormal(5, noise);
  const Tensor packed = FluxNoise(kShape, 5, 0, 1);
  ASSERT_EQ(packed.shape(), (Shape{1, 6, 12}));
  // Token (1, 2), channel 1, lower left pixel: latent (1, 3, 4).
  EXPECT_EQ(packed.data<float>()[(1 * 3 + 2) * 12 + 1 * 4 + 2], noise[(1 * 4 + 3) * 6 + 4]);
}

TEST(FluxLatents, PicturesOfOneSeedShareAStream) {
  std::vector<float> noise(2 * 3 * 4 * 6);
  TorchNormal(5, noise);
  const Tensor second = FluxNoise(kShape, 5, 1, 2);
  EXPECT_EQ(second.data<float>()[0], noise[3 * 4 * 6]);
}

TEST(FluxLatents, UnpackingInvertsPackingAndScales) {
  std::vector<float> noise(3 * 4 * 6);
  TorchNormal(9, noise);
  const Tensor packed = FluxNoise(kShape, 9, 0, 1);
  Tensor unpacked({1, 4, 6, 3}, DType::kF32);
  UnpackFluxLatents(kShape, packed.view(), 0.5, 0.25, unpacked);
  for (int channel = 0; channel < 3; ++channel) {
    for (int pixel = 0; pixel < 24; ++pixel) {
      EXPECT_FLOAT_EQ(unpacked.data<float>()[pixel * 3 + channel],
                      noise[static_cast<size_t>(channel * 24 + pixel)] * 2 + 0.25f);
    }
  }
}

TEST(FluxLatents, PositionsAreRowAndColumnAfterTheText) {
  const Tensor positions = FluxPositions(kShape, 2);
  ASSERT_EQ(positions.shape(), (Shape{8, 3}));
  const float* last = positions.data<float>() + 7 * 3;
  EXPECT_EQ(last[0], 0);
  EXPECT_EQ(last[1], 1);
  EXPECT_EQ(last[2], 2);
  EXPECT_EQ(positions.data<float>()[1 * 3 + 2], 0);
}

}  // namespace
}  // namespace tamias
