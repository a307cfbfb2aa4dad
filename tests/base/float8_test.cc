#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tamias/dtype.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float Value(int bits) { return ToFloat(Float8E4M3{static_cast<uint8_t>(bits)}); }

TEST(Float8E4M3, EveryCodeSurvivesARoundTrip) {
  for (int bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(Value(bits)));
      continue;
    }
    EXPECT_EQ(int{ToFloat8E4M3(Value(bits)).bits}, bits);
    EXPECT_EQ(std::signbit(Value(bits)), bits >= 128);
  }
}

// The nearest of all codes, of two as near the even one, for numbers of every size.
TEST(Float8E4M3, RoundsToTheNearestCode) {
  Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const float value = i % 4 == 0
                            ? (Value(static_cast<int>(random.Integer(0, 0x7D))) +
                               Value(static_cast<int>(random.Integer(0, 0x7D)))) /
                                  2
                            : std::ldexp(random.Normal(), static_cast<int>(random.Integer(-14, 9)));
    int nearest = 0;
    for (int bits = 1; bits < 0x7F; ++bits) {
      const float better = std::abs(Value(nearest) - std::abs(value));
      const float here = std::abs(Value(bits) - std::abs(value));
      if (here < better || (here == better && bits % 2 == 0)) nearest = bits;
    }
    ASSERT_EQ(ToFloat8E4M3(value).bits & 0x7F, nearest) << value;
    ASSERT_EQ(ToFloat8E4M3(value).bits >= 128, std::signbit(value)) << value;
  }
}

TEST(Float8E4M3, SaturatesAndKeepsNaN) {
  for (const float value : {448.0f, 464.0f, 1e30f, kInfinity}) {
    EXPECT_EQ(ToFloat(ToFloat8E4M3(value)), 448);
    EXPECT_EQ(ToFloat(ToFloat8E4M3(-value)), -448);
  }
  EXPECT_TRUE(std::isnan(ToFloat(ToFloat8E4M3(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace tamias
