#include "ops/distance.h"

#include "tests/support/operands.h"

namespace tamias {
namespace {

void ExpectNear(const Distance& actual, const Distance& expected) {
  const auto near = [](double a, double b) { EXPECT_NEAR(a, b, 1e-5 * (1e-6 + b)); };
  near(actual.absolute, expected.absolute);
  near(actual.absolute_reference, expected.absolute_reference);
  near(actual.squared, expected.squared);
  near(actual.squared_reference, expected.squared_reference);
}

TEST(Distance, MatchesReferenceOverRandomShapes) {
  for (uint64_t seed = 0; seed < 30; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const Shape shape = {random.Integer(0, 3), random.Integer(1, 200), random.Integer(1, 300)};
    const Operand a = RandomOperand(random, shape), b = RandomOperand(random, shape);
    ExpectNear(MeasureDistance(context, a.view, b.view),
               reference::MeasureDistance(context, a.view, b.view));
  }
}

TEST(Distance, IsTheSameAtAnyNumberOfThreads) {
  Random random(1);
  const Tensor a = random.Normal({500, 33}), b = random.Normal({500, 33});
  Context one(1), three(3);
  const Distance first = MeasureDistance(one, a.view(), b.view());
  const Distance second = MeasureDistance(three, a.view(), b.view());
  EXPECT_EQ(first.absolute, second.absolute);
  EXPECT_EQ(first.absolute_reference, second.absolute_reference);
  EXPECT_EQ(first.squared, second.squared);
  EXPECT_EQ(first.squared_reference, second.squared_reference);
}

TEST(Distance, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  const Tensor a({2, 5}, DType::kF32), b({5, 2}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { MeasureDistance(context, a, b); }),
            "distance: b: expected shape [2, 5], found [5, 2]");
}

}  // namespace
}  // namespace tamias
