#include <gtest/gtest.h>

#include <cmath>

#include "tamias/error.h"
#include "tamias/image.h"
#include "tamias/video.h"

namespace tamias {
namespace {

Image Gradient(int width, int height) {
  Image image{width, height, {}};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int channel = 0; channel < 3; ++channel) {
        image.rgb.push_back(static_cast<uint8_t>((x * 7 + y * 3 + channel * 20) % 200));
      }
    }
  }
  return image;
}

TEST(ImageMetrics, EqualPicturesAreInfinitelyAlike) {
  const Image image = Gradient(20, 15);
  EXPECT_TRUE(std::isinf(Psnr(image, image)));
  EXPECT_DOUBLE_EQ(Ssim(image, image), 1.0);
}

TEST(ImageMetrics, PsnrOfAConstantOffsetIsItsLogarithm) {
  const Image image = Gradient(16, 16);
  Image brighter = image;
  for (uint8_t& value : brighter.rgb) value = static_cast<uint8_t>(value + 10);
  EXPECT_NEAR(Psnr(image, brighter), 20 * std::log10(25.5), 1e-9);
}

TEST(ImageMetrics, SsimOfConstantPicturesIsTheLuminanceTerm) {
  const Image dark{12, 12, std::vector<uint8_t>(12 * 12 * 3, 50)};
  const Image light{12, 12, std::vector<uint8_t>(12 * 12 * 3, 100)};
  const double c1 = 2.55 * 2.55;
  EXPECT_NEAR(Ssim(dark, light), (2 * 50.0 * 100 + c1) / (50.0 * 50 + 100.0 * 100 + c1), 1e-9);
}

TEST(ImageMetrics, RefusesDifferentOrTinySizes) {
  EXPECT_THROW(Psnr(Gradient(8, 9), Gradient(9, 8)), Error);
  EXPECT_THROW(Ssim(Gradient(10, 10), Gradient(10, 10)), Error);
}

TEST(ImageMetrics, FilmsAreComparedFrameByFrame) {
  const Image image = Gradient(16, 16);
  Image brighter = image;
  for (uint8_t& value : brighter.rgb) value = static_cast<uint8_t>(value + 10);
  const std::vector<FrameLikeness> likeness =
      CompareVideos({8, {image, image}}, {8, {image, brighter}});
  ASSERT_EQ(likeness.size(), 2u);
  EXPECT_TRUE(std::isinf(likeness[0].psnr));
  EXPECT_DOUBLE_EQ(likeness[1].psnr, Psnr(image, brighter));
  EXPECT_DOUBLE_EQ(likeness[1].ssim, Ssim(image, brighter));
  EXPECT_THROW(CompareVideos({8, {image}}, {8, {image, image}}), Error);
}

}  // namespace
}  // namespace tamias
