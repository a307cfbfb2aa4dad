#include "ops/transpose.h"

#include "tests/support/operands.h"

namespace tamias {
namespace {

TEST(Transpose, MatchesReferenceOverRandomShapes) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const Shape shape = {random.Integer(0, 100), random.Integer(1, 100)};
    const Operand input = RandomOperand(random, shape, 1, RandomWeightType(random));
    Tensor actual({shape[1], shape[0]}, DType::kF32), expected({shape[1], shape[0]}, DType::kF32);
    Transpose(context, input.view, actual);
    reference::Transpose(context, input.view, expected);
    EXPECT_EQ(LargestError(actual.view(), expected.view()), 0);
  }
}

TEST(Transpose, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor input({2, 3}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { Transpose(context, input, input); }),
            "transpose: output: expected shape [3, 2], found [2, 3]");
}

}  // namespace
}  // namespace tamias
