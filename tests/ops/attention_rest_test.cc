#include "ops/attention_rest.h"

#include <gmock/gmock.h>

#include "ops/attention.h"
#include "tests/support/operands.h"

namespace tamias {
namespace {

// Attention of random heads over all keys and over the first `selected` of them.
struct Problem {
  Problem(Random& random, int64_t keys, int64_t selected)
      : shape({random.Integer(1, 2), random.Integer(1, 3), random.Integer(1, 300),
               random.Integer(1, 40)}) {
    Context context(1);
    const Shape kv = {shape[0], shape[1], keys, shape[3]};
    const Tensor query = random.Normal(shape), key = random.Normal(kv), value = random.Normal(kv);
    const auto attend = [&](int64_t begin, int64_t end, TensorView output, TensorView lse) {
      const AttentionInputs inputs = {query, key.view().Slice(2, begin, end),
                                      value.view().Slice(2, begin, end), 0.3f};
      reference::DenseAttention(context, inputs, output, lse);
    };
    for (Tensor* output : {&full, &part, &rest}) *output = Tensor(shape, DType::kF32);
    for (Tensor* lse : {&full_lse, &part_lse, &rest_lse}) {
      *lse = Tensor({shape[0], shape[1], shape[2]}, DType::kF32);
    }
    attend(0, keys, full, full_lse);
    attend(0, selected, part, part_lse);
    attend(selected, keys, rest, rest_lse);
  }
  AttentionPartition Inputs() const { return {full, full_lse, part_lse}; }

  Shape shape;
  Tensor full, full_lse, part, part_lse, rest, rest_lse;
};

TEST(AttentionRest, IsTheAttentionOverTheOtherKeys) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(2);
    Problem problem(random, 60, random.Integer(0, 40));
    Tensor lse(problem.full_lse.shape(), DType::kF32);
    AttentionRest(context, problem.Inputs(), problem.part, lse);
    // Rounding of fp32, times what the division by the share of the rest makes of it.
    EXPECT_LT(LargestError(problem.part.view(), problem.rest.view()), 1e-4f);
    EXPECT_LT(LargestError(lse.view(), problem.rest_lse.view()), 1e-4f);
  }
}

TEST(AttentionRest, MatchesReferenceOnStridedViews) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    Context context(static_cast<int>(random.Integer(1, 3)));
    const Problem problem(random, 50, 20);
    const Operand output = RandomOperand(random, problem.shape);
    CopyOnHost(problem.full.view(), output.view);
    const Operand actual = RandomOperand(random, problem.shape), expected = CopyOf(actual);
    const AttentionPartition partition = {output.view, problem.full_lse, problem.part_lse};
    Tensor lse(problem.full_lse.shape(), DType::kF32);
    Tensor expected_lse(problem.full_lse.shape(), DType::kF32);
    AttentionRest(context, partition, actual.view, lse);
    reference::AttentionRest(context, partition, expected.view, expected_lse);
    EXPECT_LT(LargestError(actual, expected), 1e-5f);
    EXPECT_LT(LargestError(lse.view(), expected_lse.view()), 1e-5f);
  }
}

TEST(AttentionRest, NothingIsLeftWhereTheSelectionHasAllTheWeight) {
  Random random(1);
  Context context(1);
  Problem problem(random, 20, 20);
  Tensor lse(problem.full_lse.shape(), DType::kF32);
  AttentionRest(context, problem.Inputs(), problem.part, lse);
  for (int64_t i = 0; i < lse.NumElements(); ++i) EXPECT_EQ(lse.data<float>()[i], -INFINITY);
  for (int64_t i = 0; i < problem.part.NumElements(); ++i) {
    EXPECT_EQ(problem.part.data<float>()[i], 0);
  }
}

TEST(AttentionRest, NamesTheArgumentThatDoesNotFit) {
  Context context(1);
  Tensor rest({1, 2, 3, 4}, DType::kF32), lse({1, 2, 3}, DType::kF32);
  const Tensor wrong({1, 2, 4}, DType::kF32);
  EXPECT_THAT(ArgumentErrorOf([&] {
                AttentionRest(context, {rest, wrong, lse}, rest, lse);
              }),
              ::testing::HasSubstr("attention rest: log_sum_exp: expected shape [1, 2, 3]"));
  EXPECT_THAT(ArgumentErrorOf([&] {
                AttentionRest(context, {lse, lse, lse}, rest, lse);
              }),
              ::testing::HasSubstr("attention rest: output"));
}

}  // namespace
}  // namespace tamias
