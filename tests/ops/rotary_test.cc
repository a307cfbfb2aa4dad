#include "ops/rotary.h"

#include "tests/support/operands.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

TEST(RmsNormRotary, MatchesReferenceWithAndWithoutNormAndRotation) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t heads = random.Integer(1, 5), tokens = random.Integer(1, 90);
      const int64_t dim = 2 * random.Integer(1, 40), batch = random.Integer(1, 2);
      // Queries of a fused projection [B, N, 3, H, D].
      const Tensor projection = random.Normal({batch, tokens, 3, heads, dim});
      const ConstTensorView input =
          projection.view().Select(2, random.Integer(0, 2)).Permute({0, 2, 1, 3});
      const Operand weight = RandomOperand(random, {dim}, 1, RandomWeightType(random));
      const bool per_head = random.Coin();
      const Shape angles = per_head ? Shape{heads, tokens, dim} : Shape{tokens, dim};
      const Operand cosine = RandomOperand(random, angles);
      const Operand sine = RandomOperand(random, angles);
      const Operand actual = RandomOperand(random, {batch, heads, tokens, dim});
      const Operand expected = CopyOf(actual);
      const bool norm = random.Coin(), rotate = random.Coin();
      const auto run = [&](auto operation, const Operand& output) {
        operation(context, input, norm ? weight.view : TensorView(), 1e-6f,
                  rotate ? cosine.view : TensorView(), rotate ? sine.view : TensorView(),
                  output.view);
      };
      run([](auto&&... arguments) { RmsNormRotary(arguments...); }, actual);
      run(&reference::RmsNormRotary, expected);
      EXPECT_LT(LargestError(actual, expected), 1e-5f);
    }
  });
}

TEST(RmsNormRotary, WorksInPlace) {
  Random random(5);
  Context context(2);
  Tensor actual = random.Normal({1, 2, 70, 24});
  Tensor expected = Tensor::CopyOf(actual.view());
  const Tensor weight = random.Normal({24}), cosine = random.Normal({70, 24});
  RmsNormRotary(context, actual, weight, 1e-6f, cosine, cosine, actual);
  reference::RmsNormRotary(context, expected, weight, 1e-6f, cosine, cosine, expected);
  EXPECT_LT(LargestError(actual.view(), expected.view()), 1e-5f);
}

TEST(RmsNormRotary, OfSeveralTensorsIsThatOfEach) {
  Random random(6);
  Context context(2);
  const Tensor query = random.Normal({2, 3, 40, 24}), key = random.Normal({2, 3, 70, 24});
  const Tensor weight = random.Normal({24}), angles = random.Normal({70, 24});
  Tensor queries(query.shape(), DType::kF32), keys(key.shape(), DType::kF32);
  Tensor expected_queries(query.shape(), DType::kF32), expected_keys(key.shape(), DType::kF32);
  const HeadRows parts[] = {{query, weight, {}, {}, queries}, {key, {}, angles, angles, keys}};
  RmsNormRotary(context, parts, 1e-6f);
  RmsNormRotary(context, query, weight, 1e-6f, {}, {}, expected_queries);
  RmsNormRotary(context, key, {}, 1e-6f, angles, angles, expected_keys);
  EXPECT_EQ(LargestError(queries.view(), expected_queries.view()), 0);
  EXPECT_EQ(LargestError(keys.view(), expected_keys.view()), 0);
  EXPECT_NO_THROW(RmsNormRotary(context, {}, 1e-6f));
  Tensor other({2, 3, 70, 22}, DType::kF32);
  const HeadRows unlike[] = {{query, {}, {}, {}, queries}, {other, {}, {}, {}, other}};
  EXPECT_EQ(ArgumentErrorOf([&] { RmsNormRotary(context, unlike, 1e-6f); }),
            "rms norm rotary: input: expected a head dimension of 24, found 22");
}

TEST(RmsNormRotary, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({1, 2, 5, 8}, DType::kF32), weight({8}, DType::kF32), angles({5, 8}, DType::kF32);
  Tensor odd({1, 2, 5, 7}, DType::kF32), odd_angles({5, 7}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { RmsNormRotary(context, x, angles, 1e-6f, angles, angles, x); }),
            "rms norm rotary: norm_weight: expected shape [8], found [5, 8]");
  EXPECT_EQ(
      ArgumentErrorOf([&] { RmsNormRotary(context, odd, {}, 1e-6f, odd_angles, odd_angles, odd); }),
      "rms norm rotary: input: expected an even head dimension, found 7");
  EXPECT_NE(ArgumentErrorOf([&] { RmsNormRotary(context, angles, {}, 1e-6f, {}, {}, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { RmsNormRotary(context, x, {}, 1e-6f, {}, {}, odd); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { RmsNormRotary(context, x, {}, 1e-6f, angles, {}, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { RmsNormRotary(context, x, {}, 1e-6f, {}, angles, x); }), "");
  EXPECT_NE(ArgumentErrorOf([&] { RmsNormRotary(context, x, {}, 1e-6f, angles, weight, x); }), "");
  Tensor of_two_heads({2, 5, 8}, DType::kF32), of_three({3, 5, 8}, DType::kF32);
  EXPECT_EQ(ArgumentErrorOf([&] { RmsNormRotary(context, x, {}, 1e-6f, of_three, of_three, x); }),
            "rms norm rotary: cosine: expected shape [2, 5, 8], found [3, 5, 8]");
  EXPECT_EQ(ArgumentErrorOf([&] { RmsNormRotary(context, x, {}, 1e-6f, of_two_heads, angles, x); }),
            "rms norm rotary: sine: expected shape [2, 5, 8], found [5, 8]");
}

}  // namespace
}  // namespace tamias
