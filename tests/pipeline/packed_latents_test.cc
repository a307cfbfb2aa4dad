#include "pipeline/packed_latents.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tamias/random.h"
#include "tamias/sparsity/token_order.h"

namespace tamias {
namespace {

constexpr LatentShape kPicture{.channels = 3, .height = 4, .width = 6};
constexpr LatentShape kFilm{
    .channels = 3, .frames = 4, .height = 4, .width = 6, .patch = 2, .patch_time = 2};

TEST(PackedLatents, PackingPutsTwoByTwoPixelsIntoAToken) {
  std::vector<float> noise(3 * 4 * 6);
  TorchNormal(5, noise);
  const Tensor packed = NoiseStream(kPicture, 5, 0, 1).NextLatents();
  ASSERT_EQ(packed.shape(), (Shape{1, 6, 12}));
  // Token (1, 2), channel 1, lower left pixel: latent (1, 3, 4).
  EXPECT_EQ(packed.data<float>()[(1 * 3 + 2) * 12 + 1 * 4 + 2], noise[(1 * 4 + 3) * 6 + 4]);
}

TEST(PackedLatents, PackingPutsFramesIntoAToken) {
  std::vector<float> noise(3 * 4 * 4 * 6);
  TorchNormal(5, noise);
  const Tensor packed = NoiseStream(kFilm, 5, 0, 1).NextLatents();
  ASSERT_EQ(packed.shape(), (Shape{1, 12, 24}));
  // Token (1, 0, 2), channel 2, second frame, upper right pixel: latent (2, 3, 0, 5).
  EXPECT_EQ(packed.data<float>()[(1 * 6 + 0 * 3 + 2) * 24 + 2 * 8 + 1 * 4 + 1],
            noise[((2 * 4 + 3) * 4 + 0) * 6 + 5]);
}

TEST(PackedLatents, PicturesOfOneSeedShareAStream) {
  std::vector<float> noise(2 * 3 * 4 * 6);
  TorchNormal(5, noise);
  const Tensor second = NoiseStream(kPicture, 5, 1, 2).NextLatents();
  EXPECT_EQ(second.data<float>()[0], noise[3 * 4 * 6]);
}

TEST(PackedLatents, LaterTensorsContinueTheStreamInTheLayoutAskedFor) {
  TorchGenerator generator(5);
  std::vector<float> noise(2 * 3 * 4 * 6);
  NoiseStream stream(kPicture, 5, 1, 2);
  const float* second = noise.data() + 3 * 4 * 6;
  generator.Normal(noise);
  EXPECT_EQ(stream.NextLatents().data<float>()[0], second[0]);
  generator.Normal(noise);
  const Tensor packed = stream.NextPacked();
  EXPECT_EQ(std::vector(packed.data<float>(), packed.data<float>() + 72),
            std::vector(second, second + 72));
  generator.Normal(noise);
  EXPECT_EQ(stream.NextLatents().data<float>()[1], second[1]);
}

TEST(PackedLatents, UnpackingInvertsPackingAndScalesEachChannel) {
  std::vector<float> noise(3 * 4 * 4 * 6);
  TorchNormal(9, noise);
  const Tensor packed = NoiseStream(kFilm, 9, 0, 1).NextLatents();
  Tensor unpacked({4, 4, 6, 3}, DType::kF32);
  UnpackLatents(kFilm, packed.view(), {{2, 3, 4}, {0.25, 0.5, 0.75}}, unpacked);
  for (int channel = 0; channel < 3; ++channel) {
    for (int pixel = 0; pixel < 96; ++pixel) {
      const float value = noise[static_cast<size_t>(channel * 96 + pixel)];
      const double scaled = double{value} * (channel + 2) + 0.25 * (channel + 1);
      EXPECT_NEAR(unpacked.data<float>()[pixel * 3 + channel], scaled, 1e-6);
    }
  }
}

TEST(PackedLatents, PositionsAreTimeRowAndColumnInTokenOrder) {
  const int64_t tokens = kFilm.tokens();
  const Tensor positions = TokenPositions(kFilm, TokenOrder::RowOrder(tokens).tokens());
  ASSERT_EQ(positions.shape(), (Shape{12, 3}));
  const float* last = positions.data<float>() + 11 * 3;
  EXPECT_EQ(last[0], 1);
  EXPECT_EQ(last[1], 1);
  EXPECT_EQ(last[2], 2);
  std::vector<int32_t> reversed(static_cast<size_t>(tokens));
  std::iota(reversed.rbegin(), reversed.rend(), 0);
  const Tensor backwards = TokenPositions(kFilm, TokenOrder(reversed).tokens());
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t axis = 0; axis < 3; ++axis) {
      EXPECT_EQ(backwards.data<float>()[3 * i + axis],
                positions.data<float>()[3 * (tokens - 1 - i) + axis]);
    }
  }
}

}  // namespace
}  // namespace tamias
