#include "ops/residual.h"

#include "tamias/ops/norm.h"
#include "tests/support/bfloat16.h"
#include "tests/support/operands.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

// x += gate * y, and no norm.
ResidualRows Sum(const TensorView& x, const ConstTensorView& gate, const TensorView& y) {
  return {.x = x, .gate = gate, .branch = y, .gain = {}, .offset = {}, .output = {}};
}
void AddGated(Context& context, const TensorView& x, const ConstTensorView& gate,
              const TensorView& y) {
  const ResidualRows rows = Sum(x, gate, y);
  ResidualNorm(context, {&rows, 1}, {});
}

TEST(ResidualWithoutNorm, MatchesReference) {
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
      AddGated(context, actual.view, gate.view, y.view);
      reference::ResidualNorm(context, Sum(expected.view, gate.view, y.view), {});
      EXPECT_LT(LargestError(actual, expected), 1e-6f);  // one rounding
    }
  });
}

struct NormCase {
  Operand x, gate, branch, gain, offset, output;
  bool adds, norms;
  ResidualNormOptions options;

  explicit NormCase(Random& random) {
    const int64_t batch = random.Integer(1, 3), width = random.Integer(1, 300);
    const Shape shape = {batch, random.Integer(0, 60), width};
    options = {.norm = random.Coin() ? NormKind::kLayer : NormKind::kRms,
               .is_modulation = random.Coin(),
               .norms_branch = random.Coin()};
    adds = random.Coin();
    norms = random.Coin();
    const Shape coefficients = random.Coin() ? Shape{batch, width} : Shape{width};
    const auto coefficient = [&](bool is_there) {
      const DType dtype = coefficients.rank() == 2 ? DType::kF32 : RandomWeightType(random);
      Operand operand = RandomOperand(random, coefficients, 1, dtype);
      if (!is_there) operand.view = {};
      return operand;
    };
    x = RandomOperand(random, shape);
    gate = RandomOperand(random, {batch, width});
    branch = RandomOperand(random, shape);
    gain = coefficient(options.is_modulation || random.Coin());
    offset = coefficient(options.norm == NormKind::kLayer && random.Coin());
    output = RandomOperand(random, shape);
  }
  ResidualRows Rows() const {
    const TensorView none;
    return {.x = x.view,
            .gate = adds ? gate.view : none,
            .branch = adds ? branch.view : none,
            .gain = gain.view,
            .offset = offset.view,
            .output = norms ? output.view : none};
  }
};

TEST(ResidualNorm, MatchesReference) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 60; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed), again(seed);
      Context context(static_cast<int>(1 + seed % 3));
      const NormCase actual(random), expected(again);
      const ResidualRows rows = actual.Rows();
      ResidualNorm(context, {&rows, 1}, actual.options);
      reference::ResidualNorm(context, expected.Rows(), expected.options);
      EXPECT_LT(LargestError(actual.x, expected.x), 1e-4f);
      EXPECT_LT(LargestError(actual.branch, expected.branch), 1e-4f);
      EXPECT_LT(LargestError(actual.output, expected.output), 2e-4f);
    }
  });
}

// In f32 and in bf16: models that used to call one operation after another compute the same.
TEST(ResidualNorm, IsToTheBitOneOperationAfterAnother) {
  ForEachSimdTarget([] {
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Random random(7);
      Context context({.device = {}, .activation_dtype = dtype}, 2);
      const Tensor gate = random.Normal({2, 77}), shift = random.Normal({2, 77});
      const Tensor scale = random.Normal({2, 77});
      Tensor branch = random.Normal({2, 30, 77}, 1, dtype);
      Tensor x = random.Normal({2, 30, 77}), expected_x = Tensor::CopyOf(x.view());
      Tensor added = Tensor::CopyOf(branch.view()), expected_added = Tensor::CopyOf(branch.view());
      Tensor output({2, 30, 77}, dtype), expected({2, 30, 77}, dtype);
      const ResidualRows rows{x, gate, added, scale, shift, output};
      ResidualNorm(context, {&rows, 1}, {.epsilon = 1e-5f, .is_modulation = true});
      AddGated(context, expected_x, gate, branch);
      LayerNormModulate(context, expected_x, shift, scale, 1e-5f, expected);
      EXPECT_EQ(LargestError(x.view(), expected_x.view()), 0);
      EXPECT_EQ(LargestError(ToFloat32(output).view(), ToFloat32(expected).view()), 0);

      const ResidualNormOptions mochi = {
          .norm = NormKind::kRms, .epsilon = 1e-5f, .norms_branch = true};
      const ResidualRows normed{x, gate, added, gate.view().Select(0, 1), {}, output};
      ResidualNorm(context, {&normed, 1}, mochi);
      RmsNorm(context, expected_added, {}, 1e-5f, expected_added);
      AddGated(context, expected_x, gate, expected_added);
      RmsNorm(context, expected_x, gate.view().Select(0, 1), 1e-5f, expected);
      EXPECT_EQ(LargestError(x.view(), expected_x.view()), 0);
      EXPECT_EQ(LargestError(ToFloat32(output).view(), ToFloat32(expected).view()), 0);
    }
  });
}

TEST(ResidualNorm, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({2, 5, 8}, DType::kF32), gate({2, 8}, DType::kF32), weight({8}, DType::kF32);
  const auto error_of = [&](const ResidualRows& rows, const ResidualNormOptions& options = {}) {
    return ArgumentErrorOf([&] { ResidualNorm(context, {&rows, 1}, options); });
  };
  EXPECT_EQ(error_of({x, gate, x, weight, {}, x}), "");
  EXPECT_EQ(error_of({x, weight, x, {}, {}, x}),
            "residual norm: gate: expected shape [2, 8], found [8]");
  EXPECT_NE(error_of({x, gate, {}, {}, {}, x}), "");
  EXPECT_NE(error_of({x, {}, x, {}, {}, x}), "");
  EXPECT_NE(error_of({x, {}, {}, {}, {}, gate}), "");
  EXPECT_NE(error_of({x, {}, {}, gate.view().Slice(1, 0, 7), {}, x}), "");
  EXPECT_EQ(error_of({x, {}, {}, {}, weight, x}, {.norm = NormKind::kRms}),
            "residual norm: offset: expected none of an RMS norm");
  EXPECT_EQ(error_of({x, {}, {}, {}, {}, x}, {.is_modulation = true}),
            "residual norm: gain: expected the scale of a modulation, found none");
}

TEST(ResidualWithoutNorm, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({2, 5, 8}, DType::kF32), gate({2, 8}, DType::kF32), wrong({2, 5}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { AddGated(context, x, wrong, x); }),
            "residual norm: gate: expected shape [2, 8], found [2, 5]");
  EXPECT_NE(ArgumentErrorOf([&] { AddGated(context, gate, gate, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { AddGated(context, x, gate, gate); }), "");
  Tensor transposed({8, 2}, DType::kF32);
  EXPECT_NE(ArgumentErrorOf([&] {
              AddGated(context, x, transposed.view().Permute({1, 0}), x);
            }),
            "");
}

}  // namespace
}  // namespace tamias
