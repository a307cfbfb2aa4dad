#include "ops/residual.h"

#include "tests/support/operands.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

TEST(GatedResidual, MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 30; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t batch = random.Integer(1, 3), width = random.Integer(1, 300);
      const Shape shape = {batch, random.Integer(1, 200), width};
      const Operand gate = RandomOperand(random, {batch, width});
      const Operand y = RandomOperand(random, shape);
      const Operand actual = RandomOperand(random, shape), expected = CopyOf(actual);
      GatedResidual(context, actual.view, gate.view, y.view);
      reference::GatedResidual(context, expected.view, gate.view, y.view);
      EXPECT_LT(LargestError(actual, expected), 1e-6f);  // one rounding
    }
  });
}

TEST(GatedResidual, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({2, 5, 8}, DType::kF32), gate({2, 8}, DType::kF32), wrong({2, 5}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { GatedResidual(context, x, wrong, x); }),
            "gated residual: gate: expected shape [2, 8], found [2, 5]");
  EXPECT_NE(ArgumentErrorOf([&] { GatedResidual(context, gate, gate, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { GatedResidual(context, x, gate, gate); }), "");
  Tensor transposed({8, 2}, DType::kF32);
  EXPECT_NE(ArgumentErrorOf([&] {
              GatedResidual(context, x, transposed.view().Permute({1, 0}), x);
            }),
            "");
}

}  // namespace
}  // namespace tamias
