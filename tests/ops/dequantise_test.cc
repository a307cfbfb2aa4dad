// Matrices in 8-bit floats, widened, and in the operations that multiply with them.
#include "ops/dequantise.h"

#include <gmock/gmock.h>

#include "base/dry_run.h"
#include "ops/column_sparse_mlp.h"
#include "ops/linear.h"
#include "ops/transpose.h"
#include "tests/support/bfloat16.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/float8_matrix.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

TEST(Dequantise, GivesEveryCodeTimesItsScale) {
  ForEachSimdTarget([] {
    Float8Matrix matrix{Tensor({3, 256}, DType::kF8E4M3), Tensor({3}, DType::kF32)};
    for (int i = 0; i < 3 * 256; ++i) {
      const int bits = (i & 0x7F) == 0x7F ? 0 : i % 256;
      matrix.codes.data<Float8E4M3>()[i] = {static_cast<uint8_t>(bits)};
    }
    for (int n = 0; n < 3; ++n) matrix.scales.data<float>()[n] = std::ldexp(1.0f, 5 - 12 * n);
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      Context context(Placement{.device = {}, .activation_dtype = dtype}, 2);
      Tensor output({3, 256}, dtype);
      Dequantise(context, matrix.view(), output);
      EXPECT_TRUE(SameBytes(ToFloat32(output), matrix.Wide())) << Name(dtype);
    }
  });
}

TEST(Dequantise, MatchesReferenceForSlicesOfAnyWidth) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t rows = random.Integer(0, 300), columns = random.Integer(0, 100);
      const int64_t before = random.Integer(0, 20), above = random.Integer(0, 3);
      const Float8Matrix matrix = RandomFloat8Matrix(random, above + rows, before + columns);
      const ConstTensorView slice =
          matrix.view().Slice(1, before, before + columns).Slice(0, above, above + rows);
      Tensor actual({rows, columns}, DType::kF32), expected({rows, columns}, DType::kF32);
      Dequantise(context, slice, actual);
      reference::Dequantise(context, slice, expected);
      EXPECT_TRUE(SameBytes(actual, expected));
      const Tensor wide = matrix.Wide();
      EXPECT_TRUE(SameBytes(
          expected,
          Tensor::CopyOf(
              wide.view().Slice(1, before, before + columns).Slice(0, above, above + rows))));
    }
  });
}

TEST(Dequantise, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Random random(1);
  const Float8Matrix matrix = RandomFloat8Matrix(random, 2, 3);
  Tensor output({2, 3}, DType::kF32), wrong({3, 2}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { Dequantise(context, matrix.view(), wrong); }),
            "dequantise: output: expected shape [2, 3], found [3, 2]");
  EXPECT_EQ(ArgumentErrorOf([&] { Dequantise(context, matrix.codes, output); }),
            "dequantise: matrix: expected scales of the rows, found none");
  EXPECT_EQ(ArgumentErrorOf([&] { Dequantise(context, output, output); }),
            "dequantise: matrix: expected fp8_e4m3, found f32");
}

// What of 8 bits only layers multiply with: biases, gains and activations are refused.
TEST(Dequantise, IsOfMatricesAlone) {
  Context context(1);
  const Tensor codes = Tensor::Zeros({4}, DType::kF8E4M3);
  Tensor x = Tensor::Zeros({5, 4}, DType::kF32), weight = Tensor::Zeros({4, 4}, DType::kF32);
  Tensor y({5, 4}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { Linear(context, x, weight, codes, y); }),
            "linear: bias: expected f32, f16 or bf16, found fp8_e4m3");
}

// To the bit, of slices, few rows and many.
TEST(Float8Weights, LinearIsThatOfTheWidenedWeights) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      const DType dtype = random.Coin() ? DType::kF32 : DType::kBF16;
      Context context(Placement{.device = {}, .activation_dtype = dtype}, 2);
      const int64_t rows = random.Coin() ? random.Integer(1, 8) : random.Integer(9, 60);
      const int64_t inputs = random.Integer(1, 100), outputs = random.Integer(1, 100);
      const int64_t before = random.Integer(0, 9);
      const Float8Matrix matrix = RandomFloat8Matrix(random, outputs, before + inputs, 0.3f);
      const ConstTensorView weight = matrix.view().Slice(1, before, before + inputs);
      Tensor widened({outputs, inputs}, dtype);
      Dequantise(context, weight, widened);
      const Tensor input = random.Normal({rows, inputs}, 1, dtype), bias = random.Normal({outputs});
      Tensor actual({rows, outputs}, DType::kF32), expected({rows, outputs}, DType::kF32);
      const LinearOptions options = {.activation = Activation::kGeluTanh};
      Linear(context, input, weight, bias, actual, options);
      Linear(context, input, widened, bias, expected, options);
      EXPECT_TRUE(SameBytes(actual, expected));
      EXPECT_EQ(context.workspace().peak_bytes(),
                PlannedWorkspace(context.placement(), context.threads(), [&](Context& planned) {
                  Linear(planned, input, weight, bias, actual, options);
                }));
    }
  });
}

TEST(Float8Weights, TransposedTheyAreTheWidenedOnes) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(2);
    const int64_t rows = random.Integer(1, 90), columns = random.Integer(1, 90);
    const Float8Matrix matrix = RandomFloat8Matrix(random, rows, columns);
    Tensor actual({columns, rows}, DType::kF32), expected({columns, rows}, DType::kF32);
    Transpose(context, matrix.view(), actual);
    reference::Transpose(context, matrix.Wide().view(), expected);
    EXPECT_TRUE(SameBytes(actual, expected));
  }
}

TEST(Float8Weights, SparseMlpIsThatOfTheWidenedWeights) {
  Random random(1);
  Context context(2);
  constexpr int64_t kTokens = 100, kDim = 40, kNeurons = 64, kGroup = 32, kGroups = 4;
  const Float8Matrix fc1 = RandomFloat8Matrix(random, kNeurons, kDim, 0.2f);
  const Tensor wide = fc1.Wide();
  const Tensor fc2_transposed = random.Normal({kNeurons, kDim}, 0.1f);
  const Tensor input = random.Normal({1, kTokens, kDim});
  Tensor indices({1, kGroups, 5}, DType::kI32), counts({1, kGroups}, DType::kI32);
  for (int32_t g = 0; g < kGroups; ++g) {
    counts.data<int32_t>()[g] = 5;
    for (int32_t j = 0; j < 5; ++j) indices.data<int32_t>()[5 * g + j] = 12 * j + g;
  }
  const NeuronSelection selection = {indices.view(), counts.view(), kGroup};
  const Tensor cache = random.Normal({1, kGroups, kNeurons, kGroup});
  const Tensor output = random.Normal({1, kTokens, kDim});
  std::vector<Tensor> results;
  for (const ConstTensorView& weight : {fc1.view(), wide.view()}) {
    const MlpWeights weights = {.fc1_weight = weight,
                                .fc1_bias = {},
                                .fc2_weight = {},
                                .fc2_weight_transposed = fc2_transposed.view(),
                                .fc2_bias = {}};
    Tensor activations = Tensor::CopyOf(cache.view()), sums = Tensor::CopyOf(output.view());
    ColumnSparseMlp(context, input, weights, selection, activations, sums);
    Tensor delta({1, kGroups, 5, kGroup}, DType::kF32);
    Tensor again = Tensor::CopyOf(cache.view());
    ColumnSparseMlpUp(context, input, weights, selection, again, delta);
    results.push_back(std::move(sums));
    results.push_back(std::move(activations));
    results.push_back(std::move(again));
  }
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(SameBytes(results[i], results[i + 3])) << i;
  EXPECT_FALSE(SameBytes(results[0], output));
}

}  // namespace
}  // namespace tamias
