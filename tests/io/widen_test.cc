#include "io/widen.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace tamias {
namespace {

float WidenByte(std::string_view dtype, int byte) {
  const auto value = static_cast<std::byte>(byte);
  return ToFloat(*Widened(dtype, {&value, 1}, {1}).data<BFloat16>());
}

// The tables of arXiv 2209.05433, section 3.
TEST(Widen, KnowsTheLandmarksOfTheEightBitFormats) {
  EXPECT_EQ(WidenByte("F8_E4M3", 0b0'1111'110), 448);
  EXPECT_EQ(WidenByte("F8_E4M3", 0b0'0001'000), std::ldexp(1.0f, -6));
  EXPECT_EQ(WidenByte("F8_E4M3", 0b0'0000'111), std::ldexp(0.875f, -6));
  EXPECT_EQ(WidenByte("F8_E4M3", 0b0'0000'001), std::ldexp(1.0f, -9));
  EXPECT_TRUE(std::isnan(WidenByte("F8_E4M3", 0b0'1111'111)));
  EXPECT_TRUE(std::isnan(WidenByte("F8_E4M3", 0b1'1111'111)));
  EXPECT_EQ(WidenByte("F8_E5M2", 0b0'11110'11), 57344);
  EXPECT_EQ(WidenByte("F8_E5M2", 0b0'00001'00), std::ldexp(1.0f, -14));
  EXPECT_EQ(WidenByte("F8_E5M2", 0b0'00000'01), std::ldexp(1.0f, -16));
  EXPECT_EQ(WidenByte("F8_E5M2", 0b1'11111'00), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(WidenByte("F8_E5M2", 0b0'11111'01)));
  EXPECT_TRUE(std::signbit(WidenByte("F8_E5M2", 0x80)));
}

// F8_E5M2 is the upper half of fp16, and F8_E4M3 has eight steps in each octave.
TEST(Widen, KeepsEveryEightBitNumberExactly) {
  for (int byte = 0; byte < 256; ++byte) {
    const float half = ToFloat(Float16{static_cast<uint16_t>(byte << 8)});
    const float widened = WidenByte("F8_E5M2", byte);
    EXPECT_TRUE(std::isnan(half) ? std::isnan(widened) : half == widened) << byte;
  }
  for (int byte = 1; byte < 0x7F; ++byte) {
    const float below = WidenByte("F8_E4M3", byte - 1), value = WidenByte("F8_E4M3", byte);
    const int octave = std::max((byte - 1) >> 3, 1) - 7;
    EXPECT_EQ(value - below, std::ldexp(1.0f, octave - 3));
    EXPECT_EQ(WidenByte("F8_E4M3", byte | 0x80), -value);
  }
}

TEST(Widen, RoundsDoublesAtAnyAddress) {
  const double values[] = {0.1, -1e-300, 1e300, 3};
  std::vector<std::byte> bytes(sizeof(values) + 1);
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  const Tensor widened = Widened("F64", std::span(bytes).subspan(1), {2, 2});
  EXPECT_EQ(widened.shape(), Shape({2, 2}));
  const float* found = widened.data<float>();
  EXPECT_EQ(found[0], 0.1f);
  EXPECT_EQ(found[1], 0);
  EXPECT_TRUE(std::isinf(found[2]));
  EXPECT_EQ(found[3], 3);
}

TEST(Widen, KnowsNoOtherType) {
  for (const char* dtype : {"F32", "I8", "F8_E8M0", "F8_E4M3FNUZ", "BOOL", ""}) {
    EXPECT_FALSE(WidenedType(dtype)) << dtype;
  }
  EXPECT_EQ(Widened("F64", {}, {0, 3}).NumElements(), 0);
}

}  // namespace
}  // namespace tamias
