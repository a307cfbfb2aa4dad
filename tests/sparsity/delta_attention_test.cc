#include "tamias/sparsity/delta_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "ops/attention.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/dry_run_case.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

struct Input {
  Tensor query, key, value;
  AttentionInputs view() const {
    return {query.view(), key.view(), value.view(),
            1 / std::sqrt(static_cast<float>(query.dim(3)))};
  }
};

// One layer's attention with its configuration, selector and planned state.
struct Layer {
  Layer(const SparsityConfig& config_in, const SparseGeometry& geometry_in, int threads = 2)
      : config(config_in), geometry(geometry_in), context(threads), state(context) {
    selector = MakeColumnSelector(config.attn, config.patchify, geometry,
                                  MakeTokenOrder(config.patchify, geometry.grid));
    attention = std::make_unique<DeltaAttention>(config.attn, config.should_profile, geometry,
                                                 *selector, 42, state);
  }
  Tensor Run(bool is_full, const Input& input) {
    Tensor output(input.query.shape(), DType::kF32);
    report = {};
    attention->Run(context, is_full, input.view(), output, report);
    return output;
  }
  Tensor Dense(const Input& input) {
    Tensor output(input.query.shape(), DType::kF32);
    DenseAttention(context, input.view(), output);
    return output;
  }

  SparsityConfig config;
  SparseGeometry geometry;
  Context context;
  StateBuilder state;
  std::unique_ptr<ColumnSelector> selector;
  std::unique_ptr<DeltaAttention> attention;
  LayerReport report;
};

SparseGeometry Geometry(uint64_t seed) {
  SparseGeometry geometry;
  geometry.batch = 1 + static_cast<int64_t>(seed % 2);
  geometry.text_tokens = static_cast<int64_t>(seed % 3) * 5;
  geometry.grid = {1, 9 + static_cast<int64_t>(seed % 5), 13};
  geometry.num_heads = 3;
  geometry.head_dim = seed % 2 == 0 ? 16 : 24;
  return geometry;
}

SparsityConfig Config(double top_keys, AttentionMerge merge) {
  SparsityConfig config;
  config.attn.top_keys = top_keys;
  config.attn.merge = merge;
  config.attn.counts_multiple_of = 1;
  config.attn.mbm = 32;
  return config;
}

Input RandomInput(const SparseGeometry& g, uint64_t seed) {
  const Shape shape = {g.batch, g.num_heads, g.joint_tokens(), g.head_dim};
  // Scores of a few units: attention weights that differ, as in a trained model.
  return {RandomTensor(shape, seed * 3, 3), RandomTensor(shape, seed * 3 + 1, 3),
          RandomTensor(shape, seed * 3 + 2)};
}

Input MovedInput(const Input& input, uint64_t seed, float size) {
  return {Moved(input.query, seed, size), Moved(input.key, seed + 1, size),
          Moved(input.value, seed + 2, size)};
}

class DeltaAttentionForms : public ::testing::TestWithParam<AttentionMerge> {};
INSTANTIATE_TEST_SUITE_P(Merge, DeltaAttentionForms,
                         ::testing::Values(AttentionMerge::kAdditive, AttentionMerge::kLse),
                         [](const auto& param_info) {
                           return param_info.param == AttentionMerge::kLse ? "Lse" : "Additive";
                         });

TEST_P(DeltaAttentionForms, FullStepsAreDense) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    Layer layer(Config(0.2, GetParam()), Geometry(seed));
    for (uint64_t step = 0; step < 3; ++step) {
      const Input input = RandomInput(layer.geometry, seed * 10 + step);
      EXPECT_LT(RelativeL2(layer.Run(true, input), layer.Dense(input)), 1e-6);
    }
  }
}

// What is cached and what is computed anew add up to the full result, whatever was selected.
TEST_P(DeltaAttentionForms, SparseStepRepeatsTheFullOneWhenNothingMoved) {
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    SparsityConfig config =
        Config(seed % 4 == 0 ? 0.0 : 0.05 * static_cast<double>(seed), GetParam());
    config.attn.random_keys = seed % 3 == 0 ? 0 : 0.1;
    config.attn.should_compress_indices = seed % 2 == 0;
    Layer layer(config, Geometry(seed));
    const Input input = RandomInput(layer.geometry, seed);
    layer.Run(true, input);
    const Tensor full = layer.Run(true, input);
    EXPECT_LT(RelativeL2(layer.Run(false, input), full), 2e-5);
    EXPECT_LT(RelativeL2(layer.Run(false, input), full), 2e-5) << "and again";
  }
}

TEST_P(DeltaAttentionForms, SparseStepIsDenseWhenAllColumnsAreSelected) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    Layer layer(Config(1.0, GetParam()), Geometry(seed));
    layer.Run(true, RandomInput(layer.geometry, 100 + seed));
    layer.Run(true, RandomInput(layer.geometry, 200 + seed));
    const Input input = RandomInput(layer.geometry, seed);
    EXPECT_LT(RelativeL2(layer.Run(false, input), layer.Dense(input)), 1e-5);
    EXPECT_EQ(layer.report.attention.Sparsity(), 0);
  }
}

TEST_P(DeltaAttentionForms, TextQueriesAreAlwaysExact) {
  Layer layer(Config(0.1, GetParam()), Geometry(2));
  ASSERT_GT(layer.geometry.text_tokens, 0);
  layer.Run(true, RandomInput(layer.geometry, 1));
  layer.Run(true, RandomInput(layer.geometry, 2));
  const Input input = RandomInput(layer.geometry, 3);
  const Tensor sparse = layer.Run(false, input);
  const Tensor dense = layer.Dense(input);
  const auto text = [&](const Tensor& t) {
    return Tensor::CopyOf(t.view().Slice(2, 0, layer.geometry.text_tokens));
  };
  EXPECT_LT(RelativeL2(text(sparse), text(dense)), 1e-6);
}

TEST_P(DeltaAttentionForms, FollowsSmallMovesBetterThanTheOldResultDoes) {
  Layer layer(Config(0.3, GetParam()), Geometry(3));
  const Input input = RandomInput(layer.geometry, 7);
  layer.Run(true, input);
  const Tensor old = layer.Run(true, input);
  const Input moved = MovedInput(input, 99, 0.05f);
  const Tensor dense = layer.Dense(moved);
  EXPECT_LT(RelativeL2(layer.Run(false, moved), dense), 0.7 * RelativeL2(old, dense));
}

TEST_P(DeltaAttentionForms, IsTheSameForBitsAndIndices) {
  SparsityConfig config = Config(0.2, GetParam());
  Layer bits(config, Geometry(4));
  config.attn.should_compress_indices = false;
  Layer indices(config, Geometry(4));
  for (const bool is_full : {true, true, false, true, false}) {
    const Input input = RandomInput(bits.geometry, is_full ? 1 : 2);
    EXPECT_EQ(RelativeL2(bits.Run(is_full, input), indices.Run(is_full, input)), 0);
  }
  EXPECT_LT(bits.state.entries().back().second, indices.state.entries().back().second);
}

TEST_P(DeltaAttentionForms, DoesNotDependOnTheNumberOfThreads) {
  const SparsityConfig config = Config(0.2, GetParam());
  Layer one(config, Geometry(5), 1);
  Layer three(config, Geometry(5), 3);
  for (const bool is_full : {true, true, false}) {
    const Input input = RandomInput(one.geometry, is_full ? 1 : 2);
    EXPECT_LT(RelativeL2(one.Run(is_full, input), three.Run(is_full, input)), 1e-5);
  }
  EXPECT_EQ(one.report.attention.done, three.report.attention.done);
}

TEST_P(DeltaAttentionForms, MeasuresDriftAtFullStepsAfterTheSelection) {
  SparsityConfig config = Config(0.2, GetParam());
  config.should_profile = true;
  Layer layer(config, Geometry(5));
  const Input input = RandomInput(layer.geometry, 1);
  layer.Run(true, input);
  EXPECT_LT(layer.report.attention_drift.Relative(), 0);
  layer.Run(true, input);
  EXPECT_LT(layer.report.attention_drift.Relative(), 0);
  layer.Run(true, input);
  EXPECT_GE(layer.report.attention_drift.Relative(), 0);
  EXPECT_LT(layer.report.attention_drift.Relative(), 2e-5) << "nothing moved";
  // The drift is the distance between what a sparse step gives and the dense result. A second layer
  // with the same history gives the former.
  Layer twin(config, Geometry(5));
  for (int i = 0; i < 3; ++i) twin.Run(true, input);
  const Input moved = MovedInput(input, 99, 0.3f);
  const Tensor sparse = twin.Run(false, moved);
  const Tensor full = layer.Run(true, moved);
  const auto image = [&](const Tensor& t) {
    return Tensor::CopyOf(
        t.view().Slice(2, layer.geometry.text_tokens, layer.geometry.joint_tokens()));
  };
  EXPECT_NEAR(layer.report.attention_drift.Relative(), RelativeL2(image(sparse), image(full)),
              1e-5);
  EXPECT_GT(layer.report.attention_drift.Relative(), 1e-3);
}

TEST(DeltaAttention, SampledDriftIsNearTheWhole) {
  SparsityConfig config = Config(0.2, AttentionMerge::kLse);
  Layer sampled(config, Geometry(5));
  config.should_profile = true;
  Layer whole(config, Geometry(5));
  const Input input = RandomInput(sampled.geometry, 1);
  const Input moved = MovedInput(input, 99, 0.3f);
  for (Layer* layer : {&sampled, &whole}) {
    layer->Run(true, input);
    layer->Run(true, input);
    layer->Run(true, moved);
  }
  EXPECT_NEAR(sampled.report.attention_drift.Relative() / whole.report.attention_drift.Relative(),
              1, 0.3);
}

// When only the selected keys and values change, the merged form is exact: the weight of the rest
// is recomputed, and the rest itself has not moved.
TEST(DeltaAttention, LseMergeIsExactWhenOnlySelectedColumnsChange) {
  SparsityConfig config = Config(0.0, AttentionMerge::kLse);
  config.attn.random_keys = 0;
  SparseGeometry geometry = Geometry(1);
  geometry.text_tokens = 12;  // with top_keys 0 the selection is the text
  Layer merged(config, geometry);
  config.attn.merge = AttentionMerge::kAdditive;
  Layer additive(config, geometry);
  const Input input = RandomInput(geometry, 5);
  Input changed = {Tensor::CopyOf(input.query.view()), Tensor::CopyOf(input.key.view()),
                   Tensor::CopyOf(input.value.view())};
  const Input other = RandomInput(geometry, 6);
  CopyOnHost(other.key.view().Slice(2, 0, 12), changed.key.view().Slice(2, 0, 12));
  CopyOnHost(other.value.view().Slice(2, 0, 12), changed.value.view().Slice(2, 0, 12));
  for (Layer* layer : {&merged, &additive}) {
    layer->Run(true, input);
    layer->Run(true, input);
  }
  const Tensor dense = merged.Dense(changed);
  EXPECT_LT(RelativeL2(merged.Run(false, changed), dense), 1e-5);
  EXPECT_GT(RelativeL2(additive.Run(false, changed), dense), 1e-2);
}

// All softmax mass on the selected columns: what is left is rounding and must not be magnified.
TEST(DeltaAttention, LseMergeSurvivesARestWithoutWeight) {
  SparsityConfig config = Config(0.0, AttentionMerge::kLse);
  config.attn.random_keys = 0;
  SparseGeometry geometry = Geometry(1);
  geometry.text_tokens = 8;
  Layer layer(config, geometry);
  Input input = RandomInput(geometry, 5);
  const int64_t tokens = geometry.joint_tokens();
  for (int64_t i = 0; i < input.key.NumElements(); ++i) {
    const bool is_text = i / geometry.head_dim % tokens < geometry.text_tokens;
    input.query.data<float>()[i] = 4;
    input.key.data<float>()[i] = is_text ? 2.0f : -2.0f;  // scores 8 sqrt(D) apart on either side
  }
  layer.Run(true, input);
  const Tensor full = layer.Run(true, input);
  EXPECT_LT(RelativeL2(layer.Run(false, input), full), 1e-5);
  const Input moved = MovedInput(input, 50, 0.01f);
  const Tensor sparse = layer.Run(false, moved);
  EXPECT_LT(RelativeL2(sparse, layer.Dense(moved)), 1e-3);
}

TEST(DeltaAttention, RecomputeMaskDecidesWhetherTheSelectionIsRenewed) {
  SparsityConfig config = Config(0.1, AttentionMerge::kAdditive);
  config.attn.random_keys = 0;
  const SparseGeometry geometry = Geometry(3);
  std::vector<Tensor> results;
  for (const bool recomputes : {false, true}) {
    config.attn.recompute_mask = recomputes;
    Layer layer(config, geometry);
    layer.Run(true, RandomInput(geometry, 1));
    layer.Run(true, RandomInput(geometry, 1));
    layer.Run(true, RandomInput(geometry, 2));  // other columns matter now
    results.push_back(layer.Run(false, MovedInput(RandomInput(geometry, 2), 9, 0.1f)));
  }
  EXPECT_GT(RelativeL2(results[0], results[1]), 1e-3);
}

TEST(DeltaAttention, SparseStepsBeforeTheSelectionAreDense) {
  Layer layer(Config(0.1, AttentionMerge::kLse), Geometry(3));
  const Input input = RandomInput(layer.geometry, 1);
  EXPECT_LT(RelativeL2(layer.Run(false, input), layer.Dense(input)), 1e-6);
  EXPECT_EQ(layer.report.attention.Sparsity(), 0);
}

// Nothing of an earlier step is needed.
SparsityConfig Pooled(double top_keys, AttentionMerge merge = AttentionMerge::kPooled) {
  SparsityConfig config = Config(top_keys, merge);
  config.attn.column_sums = ColumnSums::kPooled;
  config.attn.random_keys = 0;
  return config;
}

TEST(DeltaAttention, PooledRestIsNothingWhenAllColumnsAreSelected) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    Layer pooled(Pooled(1), Geometry(seed));
    Layer exact(Config(1, AttentionMerge::kPooled), Geometry(seed));
    for (const bool is_full : {true, true}) exact.Run(is_full, RandomInput(exact.geometry, 100));
    for (uint64_t step = 0; step < 3; ++step) {
      const Input input = RandomInput(pooled.geometry, seed * 10 + step);
      const Tensor dense = pooled.Dense(input);
      EXPECT_LT(RelativeL2(pooled.Run(false, input), dense), 1e-5);
      EXPECT_LT(RelativeL2(exact.Run(false, input), dense), 1e-5);
      EXPECT_EQ(pooled.report.attention.Sparsity(), 0);
    }
  }
}

// Each group has columns of its own that hold nearly all of its attention: with as many columns as
// these the sparse result is the dense one, and no other choice gives that.
Input PlantedInput(const SparseGeometry& geometry, int64_t group_size, int64_t heavy) {
  Input input = RandomInput(geometry, 11);
  const int64_t text = geometry.text_tokens, tokens = geometry.joint_tokens();
  const int64_t groups = (geometry.image_tokens() + group_size - 1) / group_size;
  EXPECT_LE(groups, geometry.head_dim);
  for (int64_t row = 0; row < input.query.NumElements() / geometry.head_dim; ++row) {
    const int64_t token = row % tokens - text;
    float* query = input.query.data<float>() + row * geometry.head_dim;
    float* key = input.key.data<float>() + row * geometry.head_dim;
    for (int64_t d = 0; d < geometry.head_dim; ++d) {
      query[d] *= 0.1f;
      key[d] *= 0.1f;
    }
    if (token < 0) continue;
    query[token / group_size] += 10;
    const int64_t place = token * 7 % geometry.image_tokens();  // scattered
    if (place < groups * heavy) key[place / heavy] += 10;
  }
  return input;
}

TEST(DeltaAttention, PooledSumsFindTheColumnsThatMatter) {
  SparseGeometry geometry = Geometry(6);  // no text
  ASSERT_EQ(geometry.text_tokens, 0);
  constexpr int64_t kHeavy = 5;
  const Input input = PlantedInput(geometry, 32, kHeavy);
  const auto share = static_cast<double>(kHeavy) / static_cast<double>(geometry.joint_tokens());
  Layer layer(Pooled(share), geometry);
  const Tensor dense = layer.Dense(input);
  EXPECT_LT(RelativeL2(layer.Run(false, input), dense), 1e-2);
  EXPECT_NEAR(layer.report.attention.Sparsity(), 1 - share, 1e-12);
  SparsityConfig others = Pooled(0);
  others.attn.random_keys = 0.2;  // more columns, but any
  EXPECT_GT(RelativeL2(Layer(others, geometry).Run(false, input), dense), 0.1);
}

// Rows that are alike are what their mean is: the rest is exact, whatever is selected.
TEST(DeltaAttention, PooledRestOfLikeRowsIsExact) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    const SparseGeometry geometry = Geometry(seed);
    Input input = RandomInput(geometry, seed);
    const int64_t tokens = geometry.joint_tokens(), depth = geometry.head_dim;
    float* query = input.query.data<float>();
    for (int64_t row = 0; row < input.query.NumElements() / depth; ++row) {
      const int64_t token = row % tokens - geometry.text_tokens;
      if (token < 0 || token % 16 == 0) continue;
      std::copy_n(query + (row - token % 16) * depth, depth, query + row * depth);
    }
    SparsityConfig config = Pooled(0.05 * static_cast<double>(seed));
    config.attn.mbm = 48;  // three mean rows
    config.attn.should_compress_indices = seed % 2 == 0;
    Layer pooled(config, geometry);
    config.attn.column_sums = ColumnSums::kExact;
    Layer exact(config, geometry);
    for (int i = 0; i < 2; ++i) exact.Run(true, input);
    const Tensor dense = pooled.Dense(input);
    for (Layer* layer : {&pooled, &exact}) {
      EXPECT_LT(RelativeL2(layer->Run(false, input), dense), 2e-5);
      EXPECT_GT(layer->report.attention.Sparsity(), 0.3);
    }
  }
}

TEST(DeltaAttention, PooledSumsServeADeltaAfterOneFullStep) {
  for (const AttentionMerge merge : {AttentionMerge::kAdditive, AttentionMerge::kLse}) {
    Layer layer(Pooled(0.2, merge), Geometry(5));
    const Input input = RandomInput(layer.geometry, 1);
    const Tensor full = layer.Run(true, input);
    EXPECT_LT(RelativeL2(layer.Run(false, input), full), 2e-5);
    EXPECT_GT(layer.report.attention.Sparsity(), 0.5);
  }
}

TEST(DeltaAttention, RecomputeMaskDecidesWhetherSparseStepsChooseAgain) {
  SparsityConfig config = Pooled(0.1);
  const SparseGeometry geometry = Geometry(3);
  const Input first = RandomInput(geometry, 1), second = RandomInput(geometry, 2);
  Layer fresh(config, geometry), again(config, geometry);
  config.attn.recompute_mask = false;
  Layer kept(config, geometry);
  for (Layer* layer : {&again, &kept}) layer->Run(false, first);
  const Tensor expected = fresh.Run(false, second);
  EXPECT_EQ(RelativeL2(again.Run(false, second), expected), 0);
  EXPECT_GT(RelativeL2(kept.Run(false, second), expected), 1e-2);
}

// The drift of a full step is that of the columns which a sparse step would choose there.
TEST(DeltaAttention, MeasuresDriftOfColumnsThatASparseStepWouldChoose) {
  SparsityConfig config = Pooled(0.2);
  config.should_profile = true;
  SparseGeometry geometry = Geometry(6);
  ASSERT_EQ(geometry.text_tokens, 0);
  Layer full(config, geometry), sparse(config, geometry);
  const Input input = RandomInput(geometry, 1);
  const Tensor dense = full.Run(true, input);
  EXPECT_NEAR(full.report.attention_drift.Relative(), RelativeL2(sparse.Run(false, input), dense),
              1e-5);
  EXPECT_GT(full.report.attention_drift.Relative(), 1e-2);
}

TEST(DeltaAttention, RefusesACausalMask) {
  const SparseGeometry geometry = Geometry(1);
  Layer layer(Config(0.5, AttentionMerge::kAdditive), geometry);
  const Input input = RandomInput(geometry, 1);
  AttentionInputs causal = input.view();
  causal.causal = true;
  Tensor output(input.query.shape(), DType::kF32);
  ExpectError(ErrorCode::kUnsupported, "delta attention: causal: expected bidirectional",
              [&] { layer.attention->Run(layer.context, true, causal, output, layer.report); });
}

TEST(DeltaAttention, RefusesOtherShapesThanItsGeometry) {
  const SparseGeometry geometry = Geometry(1);
  Layer layer(Config(0.5, AttentionMerge::kAdditive), geometry);
  const Input input = RandomInput(geometry, 1);
  Tensor output(input.query.shape(), DType::kF32);
  const auto expect_refused = [&](const char* name, const AttentionInputs& inputs,
                                  TensorView target) {
    ExpectError(ErrorCode::kInvalidArgument, std::string("delta attention: ") + name,
                [&] { layer.attention->Run(layer.context, true, inputs, target, layer.report); });
  };
  const AttentionInputs right = input.view();
  const auto shorter = [](const auto& view) { return view.Slice(2, 0, view.dim(2) - 1); };
  AttentionInputs inputs = right;
  inputs.query = shorter(right.query);
  expect_refused("query", inputs, output);
  inputs = right;
  inputs.key = shorter(right.key);
  expect_refused("key", inputs, output);
  inputs = right;
  inputs.value = right.value.Slice(1, 0, 0);
  expect_refused("value", inputs, output);
  expect_refused("output", right, shorter(output.view()));
}

TEST(DeltaAttention, ReportsTheShareOfPairsItSkips) {
  SparsityConfig config = Config(0.25, AttentionMerge::kLse);
  config.attn.random_keys = 0;
  SparseGeometry geometry = Geometry(3);
  ASSERT_EQ(geometry.text_tokens, 0);
  Layer layer(config, geometry);
  const Input input = RandomInput(geometry, 1);
  layer.Run(true, input);
  layer.Run(true, input);
  EXPECT_EQ(layer.report.attention.Sparsity(), 0);
  layer.Run(false, input);
  const auto keys = static_cast<double>(geometry.joint_tokens());
  EXPECT_NEAR(layer.report.attention.Sparsity(), 1 - std::round(0.25 * keys) / keys, 1e-12);
  EXPECT_EQ(layer.report.attention.dense, static_cast<double>(geometry.batch * 3) * keys * keys);
}

TEST_P(DeltaAttentionForms, ABFloat16CacheHalvesTheStateAndRoundsIt) {
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE(seed);
    SparsityConfig config = Config(0.2, GetParam());
    Layer wide(config, Geometry(seed));
    config.attn.cache_dtype = DType::kBF16;
    Layer narrow(config, Geometry(seed));
    const Input input = RandomInput(wide.geometry, seed);
    const Input moved = MovedInput(input, 7, 0.1f);
    Tensor results[2];
    for (Layer* layer : {&wide, &narrow}) {
      layer->Run(true, input);
      layer->Run(true, input);
      results[layer == &narrow] = layer->Run(false, moved);
    }
    const double difference = RelativeL2(results[1], results[0]);
    EXPECT_GT(difference, 0);
    EXPECT_LT(difference, 4e-3);  // bf16 keeps 8 bits
    const auto bytes = [](const Layer& layer) { return layer.state.entries().at(1); };
    EXPECT_EQ(bytes(wide).first, "attention output cache");
    EXPECT_EQ(bytes(narrow).second * 2, bytes(wide).second);
  }
}

// The heads [first, last) of all inputs.
Input HeadsOf(const Input& input, int64_t first, int64_t last) {
  const auto heads = [&](const Tensor& tensor) {
    return Tensor::CopyOf(tensor.view().Slice(1, first, last));
  };
  return {heads(input.query), heads(input.key), heads(input.value)};
}

TEST_P(DeltaAttentionForms, RanksComputeTheirHeadsOfTheWhole) {
  SparsityConfig config = Config(0.2, GetParam());
  config.attn.random_keys = 0.2;
  SparseGeometry geometry = Geometry(0);
  geometry.num_heads = 6;
  Layer whole(config, geometry);
  geometry.rank_bounds = {0, 40, 80, geometry.image_tokens()};
  std::vector<std::unique_ptr<Layer>> ranks;
  for (geometry.rank = 0; geometry.rank < 3; ++geometry.rank) {
    ranks.push_back(std::make_unique<Layer>(config, geometry));
  }
  Input input = RandomInput(geometry, 1);
  for (const bool is_full : {true, true, true, false, true, false}) {
    const Tensor expected = whole.Run(is_full, input);
    WorkCount work;
    Drift drift;
    int measured = 0;
    for (int64_t r = 0; r < 3; ++r) {
      Layer& rank = *ranks[static_cast<size_t>(r)];
      const Tensor output = rank.Run(is_full, HeadsOf(input, 2 * r, 2 * r + 2));
      EXPECT_TRUE(SameBytes(output, Tensor::CopyOf(expected.view().Slice(1, 2 * r, 2 * r + 2))));
      work += rank.report.attention;
      drift += rank.report.attention_drift;
      measured += rank.report.attention_drift.is_measured ? 1 : 0;
    }
    EXPECT_EQ(work.done, whole.report.attention.done);
    EXPECT_EQ(work.dense, whole.report.attention.dense);
    EXPECT_EQ(drift.Relative(), whole.report.attention_drift.Relative());
    EXPECT_EQ(measured, drift.is_measured ? 1 : 0) << "of the head that is sampled";
    input = MovedInput(input, 9, 0.2f);
  }
}

TEST(DeltaAttention, TakesWhatADryRunTakes) {
  SparsityConfig additive = Config(0.2, AttentionMerge::kAdditive);
  SparsityConfig lse = Config(0.2, AttentionMerge::kLse);
  SparsityConfig narrow = lse;
  narrow.attn.cache_dtype = DType::kBF16;
  for (const SparsityConfig& config :
       {additive, lse, narrow, Pooled(0.2), Pooled(0.2, AttentionMerge::kLse)}) {
    Layer layer(config, Geometry(6));
    const Input input = RandomInput(layer.geometry, 1);
    for (const bool is_full : {true, true, true, false}) layer.Run(is_full, input);
    const size_t planned = PlannedWorkspace({}, 2, [&](Context& context) {
      StateBuilder state(context);
      DeltaAttention attention(config.attn, config.should_profile, layer.geometry, *layer.selector,
                               42, state);
      const Shape shape = input.query.shape();
      const TensorView view = TensorView::WithoutMemory(shape, DType::kF32, {});
      LayerReport report;
      for (const bool is_full : {true, true, true, false}) {
        attention.Run(context, is_full, {view, view, view, 1.0f}, view, report);
      }
      EXPECT_EQ(state.entries(), layer.state.entries());
    });
    ExpectPlanned(planned, layer.context, layer.context.workspace().peak_bytes());
  }
}

}  // namespace
}  // namespace tamias
