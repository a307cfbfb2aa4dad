#include "ops/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/attention_inputs.h"
#include "tests/support/errors.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

struct Problem {
  int64_t batch = 1, heads = 1, queries = 1, keys = 1, head_dim = 8;
};

struct Inputs {
  Inputs(const Problem& p, Random& random, float deviation = 1)
      : query(random.Normal({p.batch, p.queries, p.heads, p.head_dim}, deviation)),
        key(random.Normal({p.batch, p.keys, p.heads, p.head_dim}, deviation)),
        value(random.Normal({p.batch, p.keys, p.heads, p.head_dim})) {}
  AttentionInputs view() const { return StridedInputs(query, key, value); }
  Tensor query, key, value;
};

Problem RandomProblem(Random& random) {
  const int64_t head_dims[] = {8, 24, 64, 128, 7, 20};
  const auto upto = [&](int64_t n) { return random.Integer(1, n); };
  return {upto(2), upto(3), upto(230), upto(260), head_dims[upto(6) - 1]};
}

TEST(DenseAttention, MatchesReferenceOverRandomShapes) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    Random random(seed);
    const Problem p = RandomProblem(random);
    SCOPED_TRACE(testing::Message()
                 << "seed " << seed << " B " << p.batch << " H " << p.heads << " Nq " << p.queries
                 << " Nk " << p.keys << " D " << p.head_dim);
    const Inputs inputs(p, random, 1.5f);
    const Shape lse_shape{p.batch, p.heads, p.queries};
    Tensor expected({p.batch, p.heads, p.queries, p.head_dim}, DType::kF32);
    Tensor expected_lse(lse_shape, DType::kF32);
    Context context(2);
    reference::DenseAttention(context, inputs.view(), expected, expected_lse);
    ForEachSimdTarget([&] {
      Tensor found(expected.shape(), DType::kF32);
      Tensor found_lse(lse_shape, DType::kF32);
      DenseAttention(context, inputs.view(), found, found_lse);
      ExpectNear(found, expected, kTolerance);
      ExpectNear(found_lse, expected_lse, kTolerance);
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(DenseAttention, ColumnSumsMatchReferenceOverRandomShapes) {
  for (uint32_t seed = 100; seed < 110; ++seed) {
    Random random(seed);
    const Problem p = RandomProblem(random);
    const int64_t sizes[] = {192, 128, 50, 7, 200};
    const int64_t group_size = sizes[seed % 5];
    SCOPED_TRACE(testing::Message() << "seed " << seed << " group " << group_size);
    const Inputs inputs(p, random);
    const Tensor previous = random.Normal({p.batch, p.heads, p.queries});
    const int64_t groups = (p.queries + group_size - 1) / group_size;
    Tensor expected({p.batch, p.heads, p.queries, p.head_dim}, DType::kF32);
    Tensor expected_lse(previous.shape(), DType::kF32);
    Tensor expected_sums({p.batch, p.heads, groups, p.keys}, DType::kF32);
    Context context(2);
    reference::DenseAttentionColumnSums(context, inputs.view(), previous, group_size, expected,
                                        expected_lse, expected_sums);
    ForEachSimdTarget([&] {
      Tensor found(expected.shape(), DType::kF32);
      Tensor lse = Tensor::CopyOf(previous);  // refreshed in place, as a full step does
      Tensor sums(expected_sums.shape(), DType::kF32);
      DenseAttentionColumnSums(context, inputs.view(), lse, group_size, found, lse, sums);
      ExpectNear(found, expected, kTolerance);
      ExpectNear(lse, expected_lse, kTolerance);
      ExpectNear(sums, expected_sums, kTolerance);
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(DenseAttention, ColumnSumsOfTheSameScoresAddUpToTheRows) {
  Random random(5);
  const Problem p{.queries = 150, .keys = 300, .head_dim = 64};
  const Inputs inputs(p, random);
  Tensor out({1, 1, p.queries, p.head_dim}, DType::kF32);
  Tensor lse({1, 1, p.queries}, DType::kF32);
  Tensor sums({1, 1, 2, p.keys}, DType::kF32);
  Context context(1);
  DenseAttention(context, inputs.view(), out, lse);
  DenseAttentionColumnSums(context, inputs.view(), lse, 100, out, {}, sums);
  for (int64_t g = 0; g < 2; ++g) {
    double total = 0;
    for (int64_t j = 0; j < p.keys; ++j) total += double{sums.data<float>()[g * p.keys + j]};
    const double rows = g == 0 ? 100 : 50;
    EXPECT_NEAR(total, rows, rows * double{kTolerance});  // every row's weights sum to 1
  }
}

TEST(DenseAttention, IsTheSameAtAnyNumberOfThreads) {
  Random random(7);
  const Problem p{.heads = 2, .queries = 111, .keys = 230, .head_dim = 64};
  const Inputs inputs(p, random, 3);
  Tensor one({1, 2, p.queries, p.head_dim}, DType::kF32);
  Tensor five(one.shape(), DType::kF32);
  Context single(1);
  Context several(5);
  DenseAttention(single, inputs.view(), one);
  DenseAttention(several, inputs.view(), five);
  ExpectNear(five, one, 0);  // rows do not interact, whatever the cut
}

TEST(DenseAttention, HugeScoresStayFinite) {
  // Scores of +-1e4, +-1e7 and +-1e20 (beyond the range of the fast exponential), and products that
  // overflow fp32. One key wins each row then, so outputs are convex combinations of values.
  for (const float deviation : {1e2f, 3e3f, 1e10f, 1e25f}) {
    ForEachSimdTarget([deviation] {
      SCOPED_TRACE(deviation);
      Random random(3);
      const Problem p{.queries = 40, .keys = 130, .head_dim = 24};
      const Inputs inputs(p, random, deviation);
      Tensor out({1, 1, p.queries, p.head_dim}, DType::kF32);
      Tensor lse({1, 1, p.queries}, DType::kF32);
      Context context(1);
      DenseAttention(context, inputs.view(), out, lse);
      for (int64_t i = 0; i < out.NumElements(); ++i) {
        ASSERT_LT(std::abs(out.data<float>()[i]), 6) << "at " << i;  // the values are N(0, 1)
      }
      for (int64_t i = 0; i < lse.NumElements(); ++i)
        ASSERT_FALSE(std::isnan(lse.data<float>()[i]));
    });
  }
}

TEST(DenseAttention, LargeScoresMatchReference) {
  // Scores up to about 1e4: an fp32 score is off by 1e4 * 6e-8 * a few, hence the wider tolerance.
  ForEachSimdTarget([] {
    Random random(11);
    const Problem p{.queries = 40, .keys = 220, .head_dim = 64};
    const Inputs inputs(p, random, 50);
    Tensor expected({1, 1, p.queries, p.head_dim}, DType::kF32);
    Tensor found(expected.shape(), DType::kF32);
    Context context(1);
    reference::DenseAttention(context, inputs.view(), expected);
    DenseAttention(context, inputs.view(), found);
    ExpectNear(found, expected, 2e-3f);
  });
}

TEST(DenseAttention, WithoutKeysIsZero) {
  Random random(1);
  const Problem p{.queries = 5, .keys = 0, .head_dim = 8};
  const Inputs inputs(p, random);
  Tensor out({1, 1, 5, 8}, DType::kF32);
  Tensor lse({1, 1, 5}, DType::kF32);
  Context context(1);
  DenseAttention(context, inputs.view(), out, lse);
  for (int64_t i = 0; i < 40; ++i) EXPECT_EQ(out.data<float>()[i], 0.0f);
  for (int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(lse.data<float>()[i], -std::numeric_limits<float>::infinity());
  }
}

TEST(DenseAttention, NamesTheArgumentThatDoesNotFit) {
  Random random(1);
  const Inputs inputs({.queries = 4, .keys = 6, .head_dim = 8}, random);
  AttentionInputs view = inputs.view();
  view.value = view.value.Slice(2, 0, 5);
  Tensor out({1, 1, 4, 8}, DType::kF32);
  Context context(1);
  ExpectError(ErrorCode::kInvalidArgument, "dense attention: value: expected shape",
              [&] { DenseAttention(context, view, out); });
}

}  // namespace
}  // namespace tamias
