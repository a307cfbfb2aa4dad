#include "ops/column_sparse_attention.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/attention_inputs.h"
#include "tests/support/errors.h"
#include "tests/support/simd_targets.h"

namespace tamias {
namespace {

// A problem with strided inputs ([B, N, H, D] storage) and a random selection: groups keep each
// column with a probability of their own, some keep none. Causal ones have as many keys as queries,
// or more.
struct Problem {
  explicit Problem(uint32_t seed, bool is_causal = false) : causal(is_causal), random(seed) {
    const int64_t head_dims[] = {8, 24, 64, 128, 20};
    const int64_t group_sizes[] = {192, 64, 17, 250};
    batch = Below(2) + 1;
    heads = Below(3) + 1;
    queries = Below(300) + 1;
    keys = Below(400) + 1;
    if (causal) keys = queries + std::max<int64_t>(0, keys - 200);
    head_dim = head_dims[Below(5)];
    group_size = group_sizes[Below(4)];
    groups = (queries + group_size - 1) / group_size;
    query = random.Normal({batch, queries, heads, head_dim});
    key = random.Normal({batch, keys, heads, head_dim});
    value = random.Normal({batch, keys, heads, head_dim});
    base = random.Normal({batch, heads, queries, head_dim});
    base_lse = random.Normal({batch, heads, queries}, 4);
    indices = Tensor::Zeros({batch, heads, groups, keys}, DType::kI32);
    counts = Tensor::Zeros({batch, heads, groups}, DType::kI32);
    Select();
  }

  int64_t Below(int64_t n) { return random.Integer(0, n - 1); }

  // So many queries before the `queries` in groups.
  void AddDenseRows(int64_t count) {
    dense_rows = count;
    query = random.Normal({batch, count + queries, heads, head_dim});
  }

  void Select() {
    for (int64_t list = 0; list < counts.NumElements(); ++list) {
      const int64_t percent = Below(4) * 33;
      int32_t* to = indices.data<int32_t>() + list * keys;
      int32_t& count = counts.data<int32_t>()[list];
      for (int64_t j = 0; j < keys; ++j) {
        if (Below(100) < percent) to[count++] = static_cast<int32_t>(j);
      }
    }
  }

  AttentionInputs inputs() const {
    AttentionInputs inputs = StridedInputs(query, key, value);
    inputs.causal = causal;
    return inputs;
  }
  ColumnSelection selection() const {
    return {
        .indices = indices, .counts = counts, .group_size = group_size, .dense_rows = dense_rows};
  }
  Shape output_shape() const { return {batch, heads, dense_rows + queries, head_dim}; }

  bool causal;
  int64_t dense_rows = 0;
  Random random;
  int64_t batch, heads, queries, keys, head_dim, group_size, groups;
  Tensor query, key, value, base, base_lse, indices, counts;
};

// On every instruction set.
void ExpectMatchesReference(const Problem& p, const SparseAttentionEpilogue& epilogue) {
  Context context(2);
  Tensor expected(p.output_shape(), DType::kF32);
  Tensor expected_lse(p.base_lse.shape(), DType::kF32);
  reference::ColumnSparseAttention(context, p.inputs(), p.selection(), epilogue, expected,
                                   expected_lse);
  ForEachSimdTarget([&] {
    Tensor found(expected.shape(), DType::kF32);
    Tensor lse(expected_lse.shape(), DType::kF32);
    ColumnSparseAttention(context, p.inputs(), p.selection(), epilogue, found, lse);
    ExpectNear(found, expected, kTolerance);
    ExpectNear(lse, expected_lse, kTolerance);
  });
}

TEST(ColumnSparseAttention, MatchesReferenceOverRandomShapesAndSelections) {
  for (uint32_t seed = 0; seed < 12; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    ExpectMatchesReference(Problem(seed), {});
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(ColumnSparseAttention, AddsToOrSubtractsFromTheBase) {
  for (uint32_t seed = 20; seed < 26; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Problem p(seed);
    ExpectMatchesReference(p, {.base = p.base, .scale = seed % 2 == 0 ? 1.0f : -1.0f});
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(ColumnSparseAttention, DenseRowsSeeEveryKeyWhateverTheEpilogue) {
  for (uint32_t seed = 30; seed < 39; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Problem p(seed);
    p.AddDenseRows(p.Below(230) + 1);
    SparseAttentionEpilogue epilogue;
    if (seed % 3 > 0) epilogue.base = p.base;
    if (seed % 3 == 1) epilogue.scale = -1;
    if (seed % 3 == 2) epilogue.base_log_sum_exp = p.base_lse;
    ExpectMatchesReference(p, epilogue);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(ColumnSparseAttention, OfDenseRowsAloneIsDenseAttention) {
  Problem p(31);
  p.dense_rows = p.queries;
  p.indices = Tensor({p.batch, p.heads, 0, p.keys}, DType::kI32);
  p.counts = Tensor({p.batch, p.heads, 0}, DType::kI32);
  Context context(2);
  Tensor out(p.base.shape(), DType::kF32), dense(p.base.shape(), DType::kF32);
  ColumnSparseAttention(context, p.inputs(), p.selection(), {}, out);
  DenseAttention(context, p.inputs(), dense);
  ExpectNear(out, dense, 0);
}

// The three forms of the epilogue.
TEST(ColumnSparseAttention, OfBFloat16MatchesReference) {
  for (uint32_t seed = 60; seed < 84; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Problem p(seed, /*is_causal=*/seed % 4 == 3);
    for (Tensor* tensor : {&p.query, &p.key, &p.value, &p.base}) RoundToBFloat16(*tensor);
    const BFloat16Inputs narrowed(p.query, p.key, p.value, p.causal);
    const Tensor base = InBFloat16(p.base);
    SparseAttentionEpilogue epilogue;
    if (seed % 3 > 0) epilogue.base = p.base;
    if (seed % 3 == 1) epilogue.scale = -1;
    if (seed % 3 == 2) epilogue.base_log_sum_exp = p.base_lse;
    Context context(BFloat16OnCpu(), 2);
    Tensor expected(p.base.shape(), DType::kF32);
    Tensor expected_lse(p.base_lse.shape(), DType::kF32);
    reference::ColumnSparseAttention(context, p.inputs(), p.selection(), epilogue, expected,
                                     expected_lse);
    if (seed % 3 > 0) epilogue.base = base;
    ForEachSimdTarget([&] {
      Tensor found(expected.shape(), DType::kBF16);
      Tensor lse(expected_lse.shape(), DType::kF32);
      ColumnSparseAttention(context, narrowed.view(), p.selection(), epilogue, found, lse);
      ExpectNearInBFloat16(found, expected, LargestMagnitude(p.value));
      ExpectNear(lse, expected_lse, kTolerance);
    });
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(ColumnSparseAttention, MergesWithTheBaseByLogSumExp) {
  for (uint32_t seed = 40; seed < 48; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Problem p(seed);
    // Some rows of the base have no weight: with an empty selection nothing is left but 0.
    for (int64_t i = 0; i < p.base_lse.NumElements(); i += 5) {
      p.base_lse.data<float>()[i] = -std::numeric_limits<float>::infinity();
    }
    ExpectMatchesReference(p, {.base = p.base, .base_log_sum_exp = p.base_lse});
    if (testing::Test::HasFatalFailure()) return;
  }
}

void ExpectPartsMergeToDenseAttention(const Problem& p) {
  Tensor complement = Tensor::Zeros(p.indices.shape(), DType::kI32);
  Tensor complement_counts = Tensor::Zeros(p.counts.shape(), DType::kI32);
  for (int64_t list = 0; list < p.counts.NumElements(); ++list) {
    const int32_t* chosen = p.indices.data<int32_t>() + list * p.keys;
    int32_t next = 0;
    for (int32_t j = 0; j < p.keys; ++j) {
      if (next < p.counts.data<int32_t>()[list] && chosen[next] == j) {
        ++next;
      } else {
        int32_t& count = complement_counts.data<int32_t>()[list];
        complement.data<int32_t>()[list * p.keys + count++] = j;
      }
    }
  }
  Context context(1);
  Tensor out(p.base.shape(), DType::kF32);
  Tensor rest_lse(p.base_lse.shape(), DType::kF32);
  const ColumnSelection rest{
      .indices = complement, .counts = complement_counts, .group_size = p.group_size};
  ColumnSparseAttention(context, p.inputs(), rest, {}, out, rest_lse);
  ColumnSparseAttention(context, p.inputs(), p.selection(),
                        {.base = out.view(), .base_log_sum_exp = rest_lse}, out);  // in place
  Tensor dense(p.base.shape(), DType::kF32);
  DenseAttention(context, p.inputs(), dense);
  ExpectNear(out, dense, kTolerance);
}

TEST(ColumnSparseAttention, MergingThePartsOfAPartitionGivesDenseAttention) {
  ExpectPartsMergeToDenseAttention(Problem(60));
  ExpectPartsMergeToDenseAttention(Problem(61, true));
}

TEST(ColumnSparseAttention, CausalMatchesReferenceOverRandomShapesAndForms) {
  for (uint32_t seed = 100; seed < 124; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Problem p(seed, true);
    for (int64_t i = 0; i < p.base_lse.NumElements(); i += 5) {
      p.base_lse.data<float>()[i] = -std::numeric_limits<float>::infinity();
    }
    if (seed % 3 == 0) ExpectMatchesReference(p, {.scale = 0.5f});
    if (seed % 3 == 1) ExpectMatchesReference(p, {.base = p.base, .scale = -1});
    if (seed % 3 == 2) ExpectMatchesReference(p, {.base = p.base, .base_log_sum_exp = p.base_lse});
    if (testing::Test::HasFatalFailure()) return;
  }
}

// Of every group only the column `key`: rows before it see nothing, in the midst of a panel.
TEST(ColumnSparseAttention, CausalRowsThatSeeNoChosenColumnKeepTheBase) {
  ForEachSimdTarget([] {
    Problem p(101, true);
    const int64_t seen_from = p.queries / 2;  // the first row that sees the column
    const int64_t key = p.keys - p.queries + seen_from;
    for (int64_t list = 0; list < p.counts.NumElements(); ++list) {
      p.counts.data<int32_t>()[list] = 1;
      p.indices.data<int32_t>()[list * p.keys] = static_cast<int32_t>(key);
    }
    Context context(2);
    Tensor out(p.base.shape(), DType::kF32), lse(p.base_lse.shape(), DType::kF32);
    ColumnSparseAttention(context, p.inputs(), p.selection(), {.base = p.base}, out, lse);
    const Tensor blind = Tensor::CopyOf(out.view().Slice(2, 0, seen_from));
    ExpectNear(blind, Tensor::CopyOf(p.base.view().Slice(2, 0, seen_from)), 0);
    for (int64_t i = 0; i < lse.NumElements(); ++i) {
      ASSERT_EQ(std::isinf(lse.data<float>()[i]), i % p.queries < seen_from) << "at " << i;
    }
    ColumnSparseAttention(context, p.inputs(), p.selection(), {}, out);
    ExpectNear(Tensor::CopyOf(out.view().Slice(2, 0, seen_from)),
               Tensor::Zeros(blind.shape(), DType::kF32), 0);
    const ConstTensorView value = p.inputs().value;
    for (int64_t i = seen_from; i < p.queries; ++i) {  // one column has all the weight
      ASSERT_NEAR(out.data<float>()[i * p.head_dim], value.data<float>()[key * value.stride(2)],
                  kTolerance);
    }
  });
}

TEST(ColumnSparseAttention, EmptySelectionLeavesTheBase) {
  Problem p(3);
  std::fill_n(p.counts.data<int32_t>(), p.counts.NumElements(), 0);
  Tensor out(p.base.shape(), DType::kF32);
  Tensor lse(p.base_lse.shape(), DType::kF32);
  Context context(2);
  ColumnSparseAttention(context, p.inputs(), p.selection(), {}, out, lse);
  ExpectNear(out, Tensor::Zeros(p.base.shape(), DType::kF32), 0);
  for (int64_t i = 0; i < lse.NumElements(); ++i) {
    ASSERT_EQ(lse.data<float>()[i], -std::numeric_limits<float>::infinity());
  }
  ColumnSparseAttention(context, p.inputs(), p.selection(), {.base = p.base}, out);
  ExpectNear(out, p.base, 0);
  ColumnSparseAttention(context, p.inputs(), p.selection(),
                        {.base = p.base, .base_log_sum_exp = p.base_lse}, out);
  ExpectNear(out, p.base, 0);
}

void ExpectAllColumnsGiveDenseAttention(Problem p) {
  for (int64_t list = 0; list < p.counts.NumElements(); ++list) {
    p.counts.data<int32_t>()[list] = static_cast<int32_t>(p.keys);
    for (int32_t j = 0; j < p.keys; ++j) p.indices.data<int32_t>()[list * p.keys + j] = j;
  }
  Context context(2);
  Tensor sparse(p.base.shape(), DType::kF32);
  Tensor dense(p.base.shape(), DType::kF32);
  ColumnSparseAttention(context, p.inputs(), p.selection(), {}, sparse);
  DenseAttention(context, p.inputs(), dense);
  ExpectNear(sparse, dense, 0);  // the same kernel over the same blocks of keys
}

TEST(ColumnSparseAttention, AllColumnsGiveDenseAttention) {
  ExpectAllColumnsGiveDenseAttention(Problem(9));
  ExpectAllColumnsGiveDenseAttention(Problem(9, true));
}

TEST(ColumnSparseAttention, IsTheSameAtAnyNumberOfThreads) {
  const Problem p(12);
  Tensor one(p.base.shape(), DType::kF32);
  Tensor four(p.base.shape(), DType::kF32);
  Context single(1);
  Context several(4);
  ColumnSparseAttention(single, p.inputs(), p.selection(), {.base = p.base}, one);
  ColumnSparseAttention(several, p.inputs(), p.selection(), {.base = p.base}, four);
  ExpectNear(four, one, 0);
}

void ExpectRefused(const Problem& p, const SparseAttentionEpilogue& epilogue, const char* message) {
  Tensor out(p.base.shape(), DType::kF32);
  Context context(1);
  ExpectError(ErrorCode::kInvalidArgument, message,
              [&] { ColumnSparseAttention(context, p.inputs(), p.selection(), epilogue, out); });
}

TEST(ColumnSparseAttention, RefusesSelectionsThatCannotBeRead) {
  Problem p(2);
  p.counts.data<int32_t>()[0] = static_cast<int32_t>(p.keys) + 1;
  ExpectRefused(p, {}, "counts: expected 0 to");
  p.counts.data<int32_t>()[0] = 1;
  p.indices.data<int32_t>()[0] = static_cast<int32_t>(p.keys);
  ExpectRefused(p, {}, "indices: expected ascending numbers");
  p.indices.data<int32_t>()[0] = -1;
  ExpectRefused(p, {}, "indices: expected ascending numbers");
}

TEST(ColumnSparseAttention, RefusesMoreCausalQueriesThanKeys) {
  Problem p(2);
  p.causal = true;
  p.key = p.random.Normal({p.batch, p.queries - 1, p.heads, p.head_dim});
  ExpectRefused(p, {},
                fmt::format("column-sparse attention: key: expected at least {} keys for as many "
                            "causal queries, found {}",
                            p.queries, p.queries - 1)
                    .c_str());
}

TEST(ColumnSparseAttention, RefusesDenseRowsThatThereAreNot) {
  Problem p(2);
  p.dense_rows = p.queries + 1;
  ExpectRefused(p, {}, fmt::format("dense_rows: expected 0 to {}", p.queries).c_str());
  p.dense_rows = -1;
  ExpectRefused(p, {}, "dense_rows: expected 0 to");
  Problem causal(2, true);
  causal.dense_rows = 1;
  ExpectRefused(causal, {}, "dense_rows: expected 0 with causal inputs, found 1");
}

TEST(ColumnSparseAttention, RefusesEpiloguesWithoutMeaning) {
  const Problem p(2);
  ExpectRefused(p, {.base_log_sum_exp = p.base_lse}, "base: expected a tensor");
  ExpectRefused(p, {.base = p.base, .base_log_sum_exp = p.base_lse, .scale = -1},
                "scale: expected 1");
}

// Threads of a CPU take groups as they become free; the order in a selection changes nothing there.
TEST(ColumnSparseAttention, AnOrderOfGroupsIsForGpus) {
  const Problem p(2);
  Tensor order(p.counts.shape(), DType::kI32);
  for (int64_t i = 0; i < order.NumElements(); ++i) {
    order.data<int32_t>()[i] = static_cast<int32_t>(order.NumElements() - 1 - i);
  }
  Tensor expected(p.base.shape(), DType::kF32), out(p.base.shape(), DType::kF32);
  Context context(2);
  ColumnSelection selection = p.selection();
  ColumnSparseAttention(context, p.inputs(), selection, {}, expected);
  selection.order = order;
  ColumnSparseAttention(context, p.inputs(), selection, {}, out);
  ExpectNear(out, expected, 0);
  EXPECT_NE(ErrorOf([&] { LongestFirstOrder(context, p.counts, order); }, ErrorCode::kUnsupported),
            "");
}

}  // namespace
}  // namespace tamias
