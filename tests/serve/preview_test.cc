#include "serve/preview.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace tamias::serve {
namespace {

// Tokens of 8 x 8 pixels whose four fields have colours that are linear in the token's latents.
struct LinearCase {
  LinearCase(int columns, int rows, unsigned seed) {
    constexpr int kChannels = 6, kSide = 8;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::mt19937 fixed(1);  // the map is the same for all seeds
    std::vector<float> map(12 * kChannels);
    for (float& value : map) value = 10 * normal(fixed);
    latents = {int64_t{columns} * rows, kChannels, {}};
    for (int64_t i = 0; i < latents.tokens * kChannels; ++i)
      latents.values.push_back(normal(random));
    picture = {columns * kSide, rows * kSide, {}};
    for (int y = 0; y < picture.height; ++y) {
      for (int x = 0; x < picture.width; ++x) {
        const int field = y % kSide / 4 * 2 + x % kSide / 4;
        const float* token =
            &latents.values[static_cast<size_t>((y / kSide * columns + x / kSide) * kChannels)];
        for (int c = 0; c < 3; ++c) {
          float color = 128;
          for (int k = 0; k < kChannels; ++k) {
            color += map[static_cast<size_t>((3 * field + c) * kChannels + k)] * token[k];
          }
          picture.rgb.push_back(
              static_cast<uint8_t>(std::lround(std::min(std::max(color, 0.F), 255.F))));
        }
      }
    }
  }

  Latents latents;
  Image picture;
};

TEST(LatentPreview, FindsALinearDecoder) {
  const LinearCase seen(16, 16, 2), other(12, 20, 3);
  LatentPreview preview;
  EXPECT_FALSE(preview.Show(other.latents, 96, 160, 1));
  preview.Learn(seen.latents, seen.picture, 1);
  const auto shown = preview.Show(other.latents, 96, 160, 1);
  ASSERT_TRUE(shown);
  ASSERT_EQ(shown->width, 24);
  ASSERT_EQ(shown->height, 40);
  double error = 0;
  for (int y = 0; y < shown->height; ++y) {
    for (int x = 0; x < shown->width; ++x) {
      for (int c = 0; c < 3; ++c) {
        const auto at = [&](const Image& image, int row, int column) {
          return image.rgb[static_cast<size_t>(3 * (row * image.width + column) + c)];
        };
        error += std::abs(at(*shown, y, x) - at(other.picture, 4 * y, 4 * x));
      }
    }
  }
  // Rounded and clamped colours, and the ridge of the fit.
  EXPECT_LT(error / static_cast<double>(shown->rgb.size()), 3);
}

TEST(LatentPreview, HasNoMapFromTooFewTokens) {
  const LinearCase seen(4, 4, 2);
  LatentPreview preview;
  preview.Learn(seen.latents, seen.picture, 1);
  EXPECT_FALSE(preview.IsKnown());
  preview.Learn(seen.latents, seen.picture, 1);
  EXPECT_TRUE(preview.IsKnown());
}

TEST(LatentPreview, LeavesLatentsOfAnotherShapeAlone) {
  const LinearCase seen(16, 16, 2);
  LatentPreview preview;
  preview.Learn(seen.latents, seen.picture, 1);
  EXPECT_FALSE(preview.Show({256, 5, std::vector<float>(256 * 5)}, 128, 128, 1));
  EXPECT_FALSE(preview.Show({257, 6, std::vector<float>(257 * 6)}, 128, 128, 1));
}

TEST(LayoutOf, FindsTokensOfPicturesAndFilms) {
  EXPECT_EQ(LayoutOf(4096, 1024, 1024, 1)->columns, 64);   // 16 pixels a side
  EXPECT_EQ(LayoutOf(9 * 16 * 8, 256, 128, 33)->rows, 8);  // 4 frames each
  EXPECT_EQ(LayoutOf(int64_t{33} * 45 * 80, 1280, 720, 129)->columns, 80);
  EXPECT_EQ(LayoutOf(1000, 512, 512, 1), std::nullopt);
}

}  // namespace
}  // namespace tamias::serve
