#include "ops/elementwise.h"

#include <bit>
#include <cmath>
#include <vector>

#include "tests/support/operands.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

Shape RandomShape(Random& random) {
  Shape shape;
  const int64_t rank = random.Integer(0, 4);
  for (int64_t axis = 0; axis < rank; ++axis) shape.Append(random.Integer(1, 15));
  return shape;
}

TEST(Elementwise, MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 25; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const Shape shape = RandomShape(random);
      const Operand a = RandomOperand(random, shape), b = RandomOperand(random, shape);
      const Operand actual = RandomOperand(random, shape), expected = CopyOf(actual);
      Add(context, a.view, b.view, actual.view);
      reference::Add(context, a.view, b.view, expected.view);
      EXPECT_LT(LargestError(actual, expected), 1e-6f);  // one rounding
      Axpy(context, 0.3f, a.view, actual.view);
      reference::Axpy(context, 0.3f, a.view, expected.view);
      EXPECT_LT(LargestError(actual, expected), 1e-6f);
      Multiply(context, actual.view, b.view, actual.view);
      reference::Multiply(context, expected.view, b.view, expected.view);
      EXPECT_LT(LargestError(actual, expected), 1e-6f);
      AbsoluteDifference(context, actual.view, b.view, actual.view);
      reference::AbsoluteDifference(context, expected.view, b.view, expected.view);
      EXPECT_LT(LargestError(actual, expected), 1e-6f);
      ScaleShift(context, a.view, -2.5f, 0.25f, actual.view);
      reference::ScaleShift(context, a.view, -2.5f, 0.25f, expected.view);
      EXPECT_LT(LargestError(actual, expected), 1e-6f);
    }
  });
}

TEST(Convert, IsExactForEveryHalfPrecisionValue) {
  ForEachSimdTarget([] {
    Context context(2);
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      Tensor halves({65536}, dtype), floats({65536}, DType::kF32);
      for (int i = 0; i < 65536; ++i) {
        static_cast<uint16_t*>(halves.view().raw())[i] = static_cast<uint16_t>(i);
      }
      Convert(context, halves.view(), floats);
      for (int i = 0; i < 65536; ++i) {
        const auto bits = static_cast<uint16_t>(i);
        const float expected =
            dtype == DType::kF16 ? ToFloat(Float16{bits}) : ToFloat(BFloat16{bits});
        const float actual = floats.data<float>()[i];
        ASSERT_TRUE(actual == expected || (std::isnan(actual) && std::isnan(expected))) << i;
      }
    }
  });
}

TEST(Convert, MatchesReferenceOnStridedViews) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(2);
    const Shape shape = {random.Integer(1, 20), random.Integer(1, 50)};
    const Operand input = RandomOperand(random, shape, 1, RandomWeightType(random));
    const Operand actual = RandomOperand(random, shape), expected = CopyOf(actual);
    Convert(context, input.view, actual.view);
    reference::Convert(context, input.view, expected.view);
    EXPECT_EQ(LargestError(actual, expected), 0);
  }
}

TEST(Convert, RoundsToBFloat16AsTheReferenceToTheBit) {
  ForEachSimdTarget([] {
    Context context(2);
    std::vector<float> values = {0.0f, -0.0f, 1e-40f, INFINITY, -INFINITY, NAN, 3.4e38f};
    for (uint32_t low = 0; low < 0x20000; low += 0x1001) {  // around ties of both parities
      values.push_back(std::bit_cast<float>(0x3F800000u + low));
      values.push_back(std::bit_cast<float>(0xC1238000u + (low & 0x1FFFFu)));
    }
    const auto count = static_cast<int64_t>(values.size());
    const ConstTensorView input(values.data(), DType::kF32, {count});
    Tensor actual({count}, DType::kBF16), expected({count}, DType::kBF16);
    Convert(context, input, actual);
    reference::Convert(context, input, expected);
    for (int64_t i = 0; i < count; ++i) {
      EXPECT_EQ(actual.data<BFloat16>()[i].bits, expected.data<BFloat16>()[i].bits)
          << values[static_cast<size_t>(i)];
    }
  });
}

TEST(Elementwise, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor a({2, 3}, DType::kF32), b({3, 2}, DType::kF32), c({2, 3}, DType::kI32);
  EXPECT_EQ(ArgumentErrorOf([&] { Add(context, a, b, a); }),
            "add: b: expected shape [2, 3], found [3, 2]");
  EXPECT_EQ(ArgumentErrorOf([&] { Add(context, a, a, b); }),
            "add: output: expected shape [2, 3], found [3, 2]");
  EXPECT_NE(ArgumentErrorOf([&] { Add(context, c, a, a); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Multiply(context, a, b, a); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Axpy(context, 1, a, b); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { ScaleShift(context, a, 1, 0, b); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Convert(context, c, a); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Convert(context, a, b); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { AbsoluteDifference(context, a, b, a); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { Add(context, a.view().Permute({1, 0}), b, b); }), "");
}

}  // namespace
}  // namespace tamias
