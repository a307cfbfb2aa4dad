#include "ops/biased_attention.h"

#include "base/dry_run.h"
#include "tests/support/operands.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

TEST(BiasedAttention, MatchesReferenceWithBiasAndCausalMask) {
  ForEachSimdTarget([] {
    for (uint64_t seed = 0; seed < 40; ++seed) {
      SCOPED_TRACE(seed);
      Random random(seed);
      Context context(static_cast<int>(random.Integer(1, 3)));
      const int64_t batch = random.Integer(1, 2), heads = random.Integer(1, 4);
      const int64_t queries = random.Integer(1, 60), dim = random.Integer(1, 70);
      const bool causal = random.Coin();
      const int64_t keys = causal ? queries : random.Integer(1, 60);
      const Operand query = RandomOperand(random, {batch, heads, queries, dim});
      const Operand key = RandomOperand(random, {batch, heads, keys, dim});
      const Operand value = RandomOperand(random, {batch, heads, keys, dim});
      Operand bias = RandomOperand(random, {random.Coin() ? 1 : heads, queries, keys});
      if (random.Coin()) bias.view = {};
      const BiasedAttentionInputs inputs = {.query = query.view,
                                            .key = key.view,
                                            .value = value.view,
                                            .bias = bias.view,
                                            .scale = 0.2f,
                                            .causal = causal};
      const Operand actual = RandomOperand(random, query.view.shape()), expected = CopyOf(actual);
      BiasedAttention(context, inputs, actual.view);
      reference::BiasedAttention(context, inputs, expected.view);
      EXPECT_LT(LargestError(actual, expected), 1e-5f);
    }
  });
}

TEST(BiasedAttention, WorksThroughBlocksOfQueries) {
  Random random(7);
  Context context(2);
  // 40 rows of 32768 keys: the scores of 32 rows fill a block.
  const Tensor query = random.Normal({1, 1, 40, 4}), key = random.Normal({1, 1, 32768, 4});
  const BiasedAttentionInputs inputs = {
      .query = query.view(), .key = key.view(), .value = key.view()};
  Tensor actual({1, 1, 40, 4}, DType::kF32), expected({1, 1, 40, 4}, DType::kF32);
  BiasedAttention(context, inputs, actual);
  reference::BiasedAttention(context, inputs, expected);
  EXPECT_LT(LargestError(actual.view(), expected.view()), 1e-5f);
  EXPECT_EQ(context.workspace().peak_bytes(),
            PlannedWorkspace(context.placement(), context.threads(),
                             [&](Context& planned) { BiasedAttention(planned, inputs, actual); }));
}

TEST(BiasedAttention, LetsHeadsShareAKeyAndValueHead) {
  Random random(8);
  Context context(2);
  const Tensor query = random.Normal({2, 3, 17, 6}), key = random.Normal({2, 1, 17, 6});
  const auto shared = [](ConstTensorView view) {
    return ConstTensorView(view.raw(), DType::kF32, {2, 3, 17, 6}, {17 * 6, 0, 6, 1});
  };
  const ConstTensorView keys = shared(key.view());
  const BiasedAttentionInputs inputs = {
      .query = query.view(), .key = keys, .value = keys, .scale = 0.4f, .causal = true};
  Tensor actual({2, 3, 17, 6}, DType::kF32), expected({2, 3, 17, 6}, DType::kF32);
  BiasedAttention(context, inputs, actual);
  reference::BiasedAttention(context, inputs, expected);
  EXPECT_LT(LargestError(actual.view(), expected.view()), 1e-5f);
}

TEST(BiasedAttention, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor x({1, 2, 5, 8}, DType::kF32), other({1, 2, 6, 8}, DType::kF32);
  Tensor bias({3, 5, 5}, DType::kF32), none({1, 2, 0, 8}, DType::kF32);
  const auto run = [&](BiasedAttentionInputs inputs, TensorView output) {
    return ArgumentErrorOf([&] { BiasedAttention(context, inputs, output); });
  };
  EXPECT_EQ(run({.query = x, .key = x, .value = x, .bias = bias}, x),
            "biased attention: bias: expected 1 or 2 heads, found 3");
  EXPECT_EQ(run({.query = x, .key = other, .value = other, .causal = true}, x),
            "biased attention: key: expected as many keys as queries (5) under a causal mask, "
            "found 6");
  EXPECT_EQ(run({.query = x, .key = none, .value = none}, x),
            "biased attention: key: expected at least 1 key, found 0");
  EXPECT_NE(run({.query = bias, .key = x, .value = x}, x), "");
  EXPECT_NE(run({.query = x, .key = bias, .value = x}, x), "");
  EXPECT_NE(run({.query = x, .key = x, .value = other}, x), "");
  EXPECT_NE(run({.query = x, .key = x, .value = x, .bias = x}, x), "");
  EXPECT_NE(run({.query = x, .key = x, .value = x}, other), "");
}

}  // namespace
}  // namespace tamias
