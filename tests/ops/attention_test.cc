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
  bool causal = false;
};

std::ostream& operator<<(std::ostream& out, const Problem& p) {
  return out << "B " << p.batch << " H " << p.heads << " Nq " << p.queries << " Nk " << p.keys
             << " D " << p.head_dim << (p.causal ? " causal" : "");
}

struct Inputs {
  Inputs(const Problem& p, Random& random, float deviation = 1)
      : query(random.Normal({p.batch, p.queries, p.heads, p.head_dim}, deviation)),
        key(random.Normal({p.batch, p.keys, p.heads, p.head_dim}, deviation)),
        value(random.Normal({p.batch, p.keys, p.heads, p.head_dim})),
        causal(p.causal) {}
  AttentionInputs view() const {
    AttentionInputs inputs = StridedInputs(query, key, value);
    inputs.causal = causal;
    return inputs;
  }
  // In bf16; rounds the values of these to what it holds.
  BFloat16Inputs Narrowed() {
    for (Tensor* tensor : {&query, &key, &value}) RoundToBFloat16(*tensor);
    return {query, key, value, causal};
  }
  Tensor query, key, value;
  bool causal;
};

Problem RandomProblem(Random& random) {
  const int64_t head_dims[] = {8, 24, 64, 128, 7, 20};
  const auto upto = [&](int64_t n) { return random.Integer(1, n); };
  return {upto(2), upto(3), upto(230), upto(260), head_dims[upto(6) - 1]};
}

// As many keys as queries, or more.
Problem RandomCausalProblem(Random& random) {
  Problem p = RandomProblem(random);
  p.keys = p.keys < 80 ? p.queries : p.queries + p.keys - 80;
  p.causal = true;
  return p;
}

void ExpectMatchesReference(const Problem& p, Random& random) {
  SCOPED_TRACE(testing::Message() << p);
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
}

TEST(DenseAttention, MatchesReferenceOverRandomShapes) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    ExpectMatchesReference(RandomProblem(random), random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

void ExpectBFloat16MatchesReference(const Problem& p, Random& random) {
  SCOPED_TRACE(testing::Message() << p);
  Inputs inputs(p, random, 1.5f);
  const BFloat16Inputs narrowed = inputs.Narrowed();
  const Tensor previous = random.Normal({p.batch, p.heads, p.queries});
  constexpr int64_t kGroup = 50;
  Tensor expected({p.batch, p.heads, p.queries, p.head_dim}, DType::kF32);
  Tensor expected_lse(previous.shape(), DType::kF32);
  Tensor expected_sums({p.batch, p.heads, (p.queries + kGroup - 1) / kGroup, p.keys}, DType::kF32);
  Context context(BFloat16OnCpu(), 2);
  reference::DenseAttentionColumnSums(context, inputs.view(), previous, kGroup, expected,
                                      expected_lse, expected_sums);
  const float values = LargestMagnitude(inputs.value);
  ForEachSimdTarget([&] {
    Tensor found(expected.shape(), DType::kBF16);
    Tensor lse(previous.shape(), DType::kF32);
    DenseAttention(context, narrowed.view(), found, lse);
    ExpectNearInBFloat16(found, expected, values);
    ExpectNear(lse, expected_lse, kTolerance);
    Tensor sums(expected_sums.shape(), DType::kF32);
    std::fill_n(sums.data<float>(), sums.NumElements(), NAN);
    DenseAttentionColumnSums(context, narrowed.view(), previous, kGroup, found, lse, sums);
    ExpectNearInBFloat16(found, expected, values);
    ExpectNear(sums, expected_sums, 2 * kTolerance);
  });
}

TEST(DenseAttention, OfBFloat16MatchesReferenceOverRandomShapes) {
  for (uint32_t seed = 400; seed < 424; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const bool is_causal = seed % 2 == 1;
    ExpectBFloat16MatchesReference(is_causal ? RandomCausalProblem(random) : RandomProblem(random),
                                   random);
    if (testing::Test::HasFatalFailure()) return;
  }
  Random random(424);  // several blocks of keys of odd size, several chunks of rows
  ExpectBFloat16MatchesReference({.queries = 401, .keys = 1001, .head_dim = 64}, random);
}

TEST(DenseAttention, CausalMatchesReferenceOverRandomShapes) {
  for (uint32_t seed = 200; seed < 216; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    ExpectMatchesReference(RandomCausalProblem(random), random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

void ExpectColumnSumsMatchReference(const Problem& p, int64_t group_size, Random& random) {
  SCOPED_TRACE(testing::Message() << p << " group " << group_size);
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
    std::fill_n(sums.data<float>(), sums.NumElements(), NAN);  // every sum is written
    DenseAttentionColumnSums(context, inputs.view(), lse, group_size, found, lse, sums);
    ExpectNear(found, expected, kTolerance);
    ExpectNear(lse, expected_lse, kTolerance);
    ExpectNear(sums, expected_sums, kTolerance);
  });
}

constexpr int64_t kGroupSizes[] = {192, 128, 50, 7, 200};

TEST(DenseAttention, ColumnSumsMatchReferenceOverRandomShapes) {
  for (uint32_t seed = 100; seed < 110; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    ExpectColumnSumsMatchReference(RandomProblem(random), kGroupSizes[seed % 5], random);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(DenseAttention, CausalColumnSumsMatchReferenceOverRandomShapes) {
  for (uint32_t seed = 300; seed < 310; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    ExpectColumnSumsMatchReference(RandomCausalProblem(random), kGroupSizes[seed % 5], random);
    if (testing::Test::HasFatalFailure()) return;
  }
  Random random(310);  // a group of several chunks of rows, which see ever more keys
  ExpectColumnSumsMatchReference({.queries = 500, .keys = 520, .head_dim = 24, .causal = true}, 450,
                                 random);
}

TEST(DenseAttention, ACausalRowIsDenseAttentionOverItsPrefix) {
  ForEachSimdTarget([] {
    Random random(17);
    const Problem p{.queries = 230, .keys = 261, .head_dim = 64, .causal = true};
    const Inputs inputs(p, random, 2);
    Tensor causal({1, 1, p.queries, p.head_dim}, DType::kF32), lse({1, 1, p.queries}, DType::kF32);
    Context context(2);
    DenseAttention(context, inputs.view(), causal, lse);
    Tensor row({1, 1, 1, p.head_dim}, DType::kF32), row_lse({1, 1, 1}, DType::kF32);
    for (int64_t i = 0; i < p.queries; i += 3) {
      SCOPED_TRACE(i);
      AttentionInputs prefix = inputs.view();
      prefix.query = prefix.query.Slice(2, i, i + 1);
      prefix.key = prefix.key.Slice(2, 0, p.keys - p.queries + i + 1);
      prefix.value = prefix.value.Slice(2, 0, p.keys - p.queries + i + 1);
      prefix.causal = i % 2 == 0;  // the last query sees all keys: no difference
      DenseAttention(context, prefix, row, row_lse);
      ExpectNear(Tensor::CopyOf(causal.view().Slice(2, i, i + 1)), row, kTolerance);
      EXPECT_NEAR(lse.data<float>()[i], row_lse.data<float>()[0], kTolerance);
    }
  });
}

// Scores of later keys that would take all the weight, and the maximum, of every row.
TEST(DenseAttention, WhatACausalRowDoesNotSeeHasNoPart) {
  ForEachSimdTarget([] {
    Random random(19);
    const Problem p{.queries = 100, .keys = 100, .head_dim = 24, .causal = true};
    Inputs inputs(p, random);
    Context context(1);
    Tensor before({1, 1, p.queries, p.head_dim}, DType::kF32), after(before.shape(), DType::kF32);
    DenseAttention(context, inputs.view(), before);
    for (const float factor : {1e3f, 1e9f, 1e20f}) {
      for (int64_t k = 0; k < p.head_dim; ++k) {
        inputs.key.data<float>()[50 * p.head_dim + k] *= factor;
        inputs.value.data<float>()[50 * p.head_dim + k] *= 1e3f;
      }
      DenseAttention(context, inputs.view(), after);
      ExpectNear(Tensor::CopyOf(after.view().Slice(2, 0, 50)),
                 Tensor::CopyOf(before.view().Slice(2, 0, 50)), kTolerance);
    }
  });
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
  for (const bool causal : {false, true}) {
    Random random(7);
    const Problem p{.heads = 2, .queries = 111, .keys = 230, .head_dim = 64, .causal = causal};
    const Inputs inputs(p, random, 3);
    Tensor one({1, 2, p.queries, p.head_dim}, DType::kF32);
    Tensor five(one.shape(), DType::kF32);
    Context single(1);
    Context several(5);
    DenseAttention(single, inputs.view(), one);
    DenseAttention(several, inputs.view(), five);
    ExpectNear(five, one, 0);  // rows do not interact, whatever the cut
  }
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

TEST(DenseAttention, RefusesMoreCausalQueriesThanKeys) {
  Random random(1);
  const Inputs inputs({.queries = 6, .keys = 4, .head_dim = 8, .causal = true}, random);
  Tensor out({1, 1, 6, 8}, DType::kF32);
  Context context(1);
  try {
    DenseAttention(context, inputs.view(), out);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_STREQ(
        error.what(),
        "dense attention: key: expected at least 6 keys for as many causal queries, found 4");
  }
}

}  // namespace
}  // namespace tamias
