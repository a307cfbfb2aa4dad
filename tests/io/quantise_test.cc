#include "io/quantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/float8_matrix.h"
#include "tests/support/rounding.h"

namespace tamias {
namespace {

Float8Matrix QuantisedOf(ConstTensorView weight) {
  std::optional<QuantisedMatrix> result = Quantise(Context(2), weight);
  EXPECT_TRUE(result.has_value());
  return {std::move(result->codes), std::move(result->scales)};
}

// The largest magnitude of each row uses the codes' range; every element is the nearest code.
TEST(Quantise, GivesEachRowTheLeastPowerOfTwoThatHoldsIt) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
    const int64_t rows = random.Integer(1, 40), width = random.Integer(1, 300);
    const Tensor weight =
        random.Normal({rows, width}, std::ldexp(1.0f, static_cast<int>(random.Integer(-8, 4))),
                      kTypes[random.Integer(0, 2)]);
    const Tensor values = ToFloat32(weight);
    const Float8Matrix matrix = QuantisedOf(weight);
    for (int64_t n = 0; n < rows; ++n) {
      const float scale = matrix.scales.data<float>()[n];
      int exponent = 0;
      EXPECT_EQ(std::frexp(scale, &exponent), 0.5f);
      float largest = 0;
      for (int64_t k = 0; k < width; ++k) {
        const float value = values.data<float>()[n * width + k];
        largest = std::max(largest, std::abs(value));
        EXPECT_EQ(matrix.codes.data<Float8E4M3>()[n * width + k].bits,
                  ToFloat8E4M3(value / scale).bits);
      }
      EXPECT_LE(largest / scale, 448);
      EXPECT_GT(largest / scale, 224);
    }
  }
}

// Half of the last of four bits, and half of the smallest code.
TEST(Quantise, ErrsByASixteenthAtMost) {
  Random random(1);
  const Tensor weight = random.Normal({50, 400});
  const Float8Matrix matrix = QuantisedOf(weight);
  const Tensor wide = matrix.Wide();
  for (int64_t i = 0; i < weight.NumElements(); ++i) {
    const float value = weight.data<float>()[i];
    const float smallest = matrix.scales.data<float>()[i / 400] * 0x1p-9f;
    EXPECT_LE(std::abs(wide.data<float>()[i] - value),
              std::max(std::abs(value) / 16, smallest / 2));
  }
}

TEST(Quantise, KeepsValuesThatWereE4M3ToTheBit) {
  Tensor weight({2, 254}, DType::kBF16);
  for (int64_t i = 0; i < 254; ++i) {
    const auto bits = static_cast<uint8_t>(i < 127 ? i : i + 1);
    const float value = ToFloat(Float8E4M3{bits});
    weight.data<BFloat16>()[i] = ToBFloat16(value);
    weight.data<BFloat16>()[254 + i] = ToBFloat16(std::abs(value) < 1 ? value : 0);
  }
  const Tensor wide = QuantisedOf(weight).Wide(), expected = ToFloat32(weight);
  for (int64_t i = 0; i < weight.NumElements(); ++i) {
    EXPECT_EQ(wide.data<float>()[i], expected.data<float>()[i]) << i;
  }
}

TEST(Quantise, TakesRowsOfZerosAndOfTheSmallestAndLargestNumbers) {
  Tensor weight = Tensor::Zeros({4, 3}, DType::kF32);
  weight.data<float>()[4] = -0x1.8p126f;
  weight.data<float>()[7] = std::numeric_limits<float>::denorm_min();
  weight.data<float>()[10] = 0x1p-90f;
  const Tensor wide = QuantisedOf(weight).Wide();
  const float expected[] = {0, 0, 0, 0, -0x1.8p126f, 0, 0, 0, 0, 0, 0x1p-90f, 0};
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(wide.data<float>()[i], expected[i]) << i;
  const Float8Matrix none = QuantisedOf(Tensor({0, 5}, DType::kF32));
  EXPECT_EQ(none.codes.shape(), Shape({0, 5}));
}

TEST(Quantise, RefusesWhatIsNotFinite) {
  for (const float value :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Tensor weight = Tensor::Zeros({3, 5}, DType::kF32);
    weight.data<float>()[11] = -value;
    EXPECT_FALSE(Quantise(Context(2), weight).has_value());
    EXPECT_FALSE(Quantise(Context(2), Rounded(weight.view(), DType::kBF16)).has_value());
  }
}

}  // namespace
}  // namespace tamias
