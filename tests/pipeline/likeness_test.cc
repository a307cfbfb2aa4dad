#include "tamias/likeness.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/errors.h"

namespace tamias {
namespace {

Image Grey(int value, int side = 16) {
  const size_t bytes = static_cast<size_t>(side) * static_cast<size_t>(side) * 3;
  return {side, side, std::vector<uint8_t>(bytes, static_cast<uint8_t>(value))};
}

double PsnrOfOffset(int offset) { return 20 * std::log10(255.0 / offset); }

TEST(Likeness, IsTheMeanOverFramesAndTheWorstFilm) {
  const std::vector<Video> expected = {{8, {Grey(100), Grey(100)}}, {8, {Grey(100), Grey(100)}}};
  const std::vector<Video> found = {{8, {Grey(100), Grey(110)}}, {8, {Grey(101), Grey(101)}}};
  const Likeness likeness = CompareFilms(found, expected);
  ASSERT_EQ(likeness.films.size(), 2u);
  EXPECT_EQ(likeness.films[0][0].psnr, 99);  // nothing differs
  EXPECT_NEAR(likeness.films[0][1].psnr, PsnrOfOffset(10), 1e-9);
  const double first = (99 + PsnrOfOffset(10)) / 2, second = PsnrOfOffset(1);
  EXPECT_NEAR(likeness.worst_psnr, second, 1e-9);
  EXPECT_NEAR(likeness.psnr, (first + second) / 2, 1e-9);
  EXPECT_LT(likeness.ssim, 1);
  EXPECT_EQ(likeness.films[0][0].ssim, 1);
}

TEST(Likeness, RefusesWhatCannotBeCompared) {
  const std::vector<Video> one = {{0, {Grey(1)}}};
  EXPECT_EQ(ArgumentErrorOf([&] { CompareFilms(one, {}); }),
            "films: expected as many in both, at least one, found 1 and 0");
  EXPECT_NE(ArgumentErrorOf([&] { CompareFilms({}, {}); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { CompareFilms(one, {{0, {}}}); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { CompareFilms(one, {{0, {Grey(1, 17)}}}); }), "");
  EXPECT_EQ(ArgumentErrorOf([&] { CheckComparable(16, 10); }),
            "height: 16x10 pixels are too small to compare: SSIM needs 11 a side");
  CheckComparable(11, 11);
}

TEST(Likeness, PicturesAreFilmsOfOneFrame) {
  GenerateResult result;
  result.images = {Grey(1), Grey(2)};
  const std::vector<Video> films = TakeFilms(result);
  ASSERT_EQ(films.size(), 2u);
  EXPECT_EQ(films[1].frames.size(), 1u);
  EXPECT_EQ(films[1].frames[0].rgb[0], 2);
}

TEST(Likeness, LatentsByTheirRelativeError) {
  const std::vector<Latents> expected = {{1, 2, {3, 4}}, {1, 2, {0, 2}}};
  EXPECT_DOUBLE_EQ(RelativeL2({{1, 2, {3, 4}}, {1, 2, {0, 1}}}, expected), 0.25);
  EXPECT_EQ(ArgumentErrorOf([&] { RelativeL2({expected[0]}, expected); }),
            "latents: expected as many in both, at least one, found 1 and 2");
  EXPECT_NE(ArgumentErrorOf([&] { RelativeL2({{1, 1, {3}}, expected[1]}, expected); }), "");
}

}  // namespace
}  // namespace tamias
