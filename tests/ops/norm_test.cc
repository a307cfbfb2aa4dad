#include "ops/norm.h"

#include "tests/support/operands.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

constexpr float kEpsilon = 1e-6f;

// A vector of weights, or none.
Operand RandomWeight(Random& random, int64_t size) {
  if (random.Coin()) return {};
  Operand weight{random.Normal({size}, 1, RandomWeightType(random)), {}};
  weight.view = weight.storage.view();
  return weight;
}

// Values whose mean is far from zero, so that an uncentred variance would show.
Operand RandomRows(Random& random, const Shape& shape) {
  Operand operand = RandomOperand(random, shape);
  const float mean = 10 * random.Normal();
  for (int64_t i = 0; i < operand.storage.NumElements(); ++i) {
    operand.storage.data<float>()[i] += mean;
  }
  return operand;
}

TEST(LayerNorm, MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 25; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const Shape shape = {random.Integer(1, 3), random.Integer(1, 90), random.Integer(2, 300)};
      const Operand weight = RandomWeight(random, shape[2]), bias = RandomWeight(random, shape[2]);
      const Operand input = RandomRows(random, shape);
      const Operand actual = RandomOperand(random, shape), expected = CopyOf(actual);
      LayerNorm(context, input.view, weight.view, bias.view, kEpsilon, actual.view);
      reference::LayerNorm(context, input.view, weight.view, bias.view, kEpsilon, expected.view);
      EXPECT_LT(LargestError(actual, expected),
                2e-4f);  // 2 values close together: 1e-7 * 10 / 1e-3
    }
  });
}

TEST(LayerNormModulate, MatchesReferenceInPlace) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 25; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const Shape shape = {random.Integer(1, 3), random.Integer(1, 90), random.Integer(20, 300)};
      const Operand shift = RandomOperand(random, {shape[0], shape[2]});
      const Operand scale = RandomOperand(random, {shape[0], shape[2]});
      const Operand actual = RandomRows(random, shape), expected = CopyOf(actual);
      LayerNormModulate(context, actual.view, shift.view, scale.view, kEpsilon, actual.view);
      reference::LayerNormModulate(context, expected.view, shift.view, scale.view, kEpsilon,
                                   expected.view);
      EXPECT_LT(LargestError(actual, expected), 2e-5f);
    }
  });
}

TEST(RmsNorm, MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 25; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const Shape shape = {random.Integer(1, 3), random.Integer(1, 90), random.Integer(1, 300)};
      const Operand weight = RandomWeight(random, shape[2]);
      const Operand input = RandomRows(random, shape);
      const Operand actual = RandomOperand(random, shape), expected = CopyOf(actual);
      RmsNorm(context, input.view, weight.view, kEpsilon, actual.view);
      reference::RmsNorm(context, input.view, weight.view, kEpsilon, expected.view);
      EXPECT_LT(LargestError(actual, expected), 1e-5f);
    }
  });
}

TEST(GroupNorm, MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 25; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t groups = random.Integer(1, 8);
      const Shape shape = {random.Integer(1, 2), random.Integer(1, 40), random.Integer(2, 40),
                           groups * random.Integer(1, 9)};
      const Operand weight = RandomWeight(random, shape[3]), bias = RandomWeight(random, shape[3]);
      Tensor input = random.Normal(shape);
      const float mean = 30 * random.Normal();
      for (int64_t i = 0; i < input.NumElements(); ++i) input.data<float>()[i] += mean;
      Tensor actual(shape, DType::kF32), expected(shape, DType::kF32);
      const bool silu = random.Coin();
      GroupNorm(context, input, groups, weight.view, bias.view, kEpsilon, silu, actual);
      Tensor gain({shape[0], shape[3]}, DType::kF32), offset(gain.shape(), DType::kF32);
      reference::GroupNormStatistics(context, input, groups, weight.view, bias.view, kEpsilon, gain,
                                     offset);
      reference::ScaleShiftChannels(context, input, gain, offset, silu, expected);
      // gain * x + offset cancels a mean of up to 100 standard deviations: 100 * 1e-7, a few times
      EXPECT_LT(LargestError(actual.view(), expected.view()), 2e-4f);
    }
  });
}

TEST(Norms, KeepNan) {
  ForEachSimdTarget([] {
    Context context(1);
    Tensor input = Tensor::Zeros({1, 1, 1, 20}, DType::kF32);
    input.data<float>()[3] = NAN;
    Tensor output(input.shape(), DType::kF32);
    LayerNorm(context, input, {}, {}, kEpsilon, output);
    EXPECT_TRUE(std::isnan(output.data<float>()[0]));
    RmsNorm(context, input, {}, kEpsilon, output);
    EXPECT_TRUE(std::isnan(output.data<float>()[0]));
    GroupNorm(context, input, 4, {}, {}, kEpsilon, true, output);
    EXPECT_TRUE(std::isnan(output.data<float>()[0]));
  });
}

TEST(Norms, NameTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({2, 5, 8}, DType::kF32), row({8}, DType::kF32), rows({2, 8}, DType::kF32);
  Tensor wrong({7}, DType::kF32), picture({1, 4, 4, 8}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { LayerNorm(context, x, wrong, {}, kEpsilon, x); }),
            "layer norm: weight: expected shape [8], found [7]");
  EXPECT_NE(ArgumentErrorOf([&] { LayerNorm(context, x, row, wrong, kEpsilon, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { LayerNorm(context, x, row, {}, kEpsilon, rows); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { LayerNorm(context, {}, {}, {}, kEpsilon, {}); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { LayerNormModulate(context, rows, rows, rows, kEpsilon, rows); }),
            "");
  EXPECT_NE(ArgumentErrorOf([&] { LayerNormModulate(context, x, row, rows, kEpsilon, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { LayerNormModulate(context, x, rows, row, kEpsilon, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { RmsNorm(context, x, wrong, kEpsilon, x); }), "");
  EXPECT_EQ(
      ArgumentErrorOf([&] { GroupNorm(context, picture, 3, {}, {}, kEpsilon, false, picture); }),
      "group norm: groups: expected a divisor of 8, found 3");
  EXPECT_NE(
      ArgumentErrorOf([&] { GroupNorm(context, picture, 2, wrong, {}, kEpsilon, false, picture); }),
      "");
  EXPECT_NE(
      ArgumentErrorOf([&] { GroupNorm(context, picture, 2, {}, wrong, kEpsilon, false, picture); }),
      "");
  EXPECT_NE(ArgumentErrorOf([&] { GroupNorm(context, x, 2, {}, {}, kEpsilon, false, x); }), "");
  EXPECT_NE(ArgumentErrorOf(
                [&] { GroupNormStatistics(context, picture, 2, {}, {}, kEpsilon, rows, rows); }),
            "");
  EXPECT_NE(
      ArgumentErrorOf([&] { ScaleShiftChannels(context, picture, rows, rows, false, picture); }),
      "");
}

}  // namespace
}  // namespace tamias
