#include "tamias/sparsity/delta_mlp.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace tamias {
namespace {

struct Weights {
  Weights(int64_t model_dim, int64_t mlp_dim, bool gated, uint64_t seed)
      : fc1(RandomTensor({(gated ? 2 : 1) * mlp_dim, model_dim}, seed, 0.3f)),
        bias1(RandomTensor({(gated ? 2 : 1) * mlp_dim}, seed + 1, 0.3f)),
        fc2(RandomTensor({model_dim, mlp_dim}, seed + 2, 0.3f)),
        transposed({mlp_dim, model_dim}, DType::kF32),
        bias2(RandomTensor({model_dim}, seed + 3, 0.3f)) {
    CopyOnHost(fc2.view().Permute({1, 0}), transposed.view());
    view = {.fc1_weight = fc1.view(),
            .fc1_bias = bias1.view(),
            .fc2_weight = fc2.view(),
            .fc2_weight_transposed = transposed.view(),
            .fc2_bias = bias2.view(),
            .activation = gated ? Activation::kSilu : Activation::kGeluTanh,
            .gated = gated};
  }
  Tensor fc1, bias1, fc2, transposed, bias2;
  MlpWeights view;
};

struct Layer {
  Layer(const SparsityConfig& config_in, int64_t batch, int64_t tokens_in, bool gated,
        uint64_t seed, int threads = 2)
      : Layer(config_in, batch, tokens_in, gated, seed, threads, 0, {}) {}
  // Of a rank; tokens: of all.
  Layer(const SparsityConfig& config_in, int64_t batch, int64_t tokens_in, bool gated,
        uint64_t seed, int threads, int rank, const std::vector<int64_t>& rank_bounds)
      : config(config_in),
        tokens(tokens_in),
        context(threads),
        state(context),
        weights(kModelDim, kMlpDim, gated, seed) {
    geometry.batch = batch;
    geometry.grid = {1, 1, tokens};
    geometry.model_dim = kModelDim;
    geometry.mlp_dim = kMlpDim;
    geometry.gated_mlp = gated;
    geometry.rank = rank;
    geometry.rank_bounds = rank_bounds;
    mlp =
        std::make_unique<DeltaMlp>(config.mlp, config.should_profile, geometry, tokens, 42, state);
  }
  Tensor Run(int64_t step, bool is_full, const Tensor& input) {
    Tensor output(input.shape(), DType::kF32);
    report = {};
    mlp->Run(context, step, is_full, weights.view, input, output, report);
    return output;
  }
  Tensor Dense(const Tensor& input) {
    Tensor output(input.shape(), DType::kF32);
    DenseMlp(context, weights.view, input, output);
    return output;
  }
  Tensor Input(uint64_t seed) const {
    return RandomTensor({geometry.batch, tokens, kModelDim}, seed);
  }

  static constexpr int64_t kModelDim = 24;
  static constexpr int64_t kMlpDim = 80;
  SparsityConfig config;
  SparseGeometry geometry;
  int64_t tokens;
  Context context;
  StateBuilder state;
  Weights weights;
  std::unique_ptr<DeltaMlp> mlp;
  LayerReport report;
};

SparsityConfig Config(double top_keys, double random_keys = 0) {
  SparsityConfig config;
  config.mlp.top_keys = top_keys;
  config.mlp.random_keys = random_keys;
  config.mlp.counts_multiple_of = 1;
  config.mlp.mbm = 32;
  return config;
}

class DeltaMlpShapes : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Gated, DeltaMlpShapes, ::testing::Bool(), [](const auto& param_info) {
  return param_info.param ? "Gated" : "Plain";
});

TEST_P(DeltaMlpShapes, FullStepsAreDense) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    Layer layer(Config(0.3), 1 + static_cast<int64_t>(seed % 2),
                40 + 37 * static_cast<int64_t>(seed), GetParam(), seed);
    for (int64_t step = 0; step < 3; ++step) {
      const Tensor input = layer.Input(seed * 10 + static_cast<uint64_t>(step));
      EXPECT_LT(RelativeL2(layer.Run(step, true, input), layer.Dense(input)), 1e-6);
    }
  }
}

TEST_P(DeltaMlpShapes, OtherShapesThanTheGeometryAreRefused) {
  Layer layer(Config(0.3), 1, 40, GetParam(), 1);
  Layer longer(Config(0.3), 1, 41, GetParam(), 1);
  ExpectError(ErrorCode::kInvalidArgument, "delta mlp: input",
              [&] { layer.Run(0, true, longer.Input(1)); });
  const Tensor input = layer.Input(1);
  Tensor output(input.shape(), DType::kF32);
  MlpWeights narrow = layer.weights.view;
  narrow.fc1_weight = narrow.fc1_weight.Slice(0, 0, Layer::kMlpDim / 2);
  ExpectError(ErrorCode::kInvalidArgument, "delta mlp: fc1_weight",
              [&] { layer.mlp->Run(layer.context, 0, true, narrow, input, output, layer.report); });
}

TEST_P(DeltaMlpShapes, SparseStepIsDenseWhenAllNeuronsAreSelected) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(seed);
    Layer layer(Config(1.0), 1 + static_cast<int64_t>(seed % 2),
                40 + 37 * static_cast<int64_t>(seed), GetParam(), seed);
    layer.Run(0, true, layer.Input(1));
    for (int64_t step = 1; step < 4; ++step) {
      const Tensor input = layer.Input(static_cast<uint64_t>(10 + step));
      EXPECT_LT(RelativeL2(layer.Run(step, false, input), layer.Dense(input)), 1e-5);
    }
  }
}

// A sixteenth at most in each factor, of either sign; full steps are not rounded.
TEST_P(DeltaMlpShapes, InFloat8SparseStepsAreNearTheDenseOnes) {
  SparsityConfig config = Config(1.0);
  config.mlp.is_fp8 = true;
  Layer layer(config, 1, 100, GetParam(), 3);
  const Tensor first = layer.Input(1), second = layer.Input(2);
  EXPECT_LT(RelativeL2(layer.Run(0, true, first), layer.Dense(first)), 1e-6);
  const double error = RelativeL2(layer.Run(1, false, second), layer.Dense(second));
  EXPECT_GT(error, 1e-3);
  EXPECT_LT(error, 6e-2);
}

TEST_P(DeltaMlpShapes, OutputStaysWhenTheInputDoes) {
  Layer layer(Config(0.3, 0.1), 2, 100, GetParam(), 5);
  const Tensor input = layer.Input(1);
  const Tensor full = layer.Run(0, true, input);
  for (int64_t step = 1; step < 20; ++step) {
    EXPECT_LT(RelativeL2(layer.Run(step, false, input), full), 2e-6);
  }
}

TEST_P(DeltaMlpShapes, FollowsSmallMovesBetterThanTheOldResultDoes) {
  Layer layer(Config(0.5), 1, 96, GetParam(), 6);
  const Tensor input = layer.Input(1);
  const Tensor old = layer.Run(0, true, input);
  // A move that the rows of a block share, as between two denoising steps.
  Tensor moved = Tensor::CopyOf(input.view());
  for (int64_t i = 0; i < moved.NumElements(); ++i) {
    moved.data<float>()[i] += 0.3f * RandomValue(77, i % Layer::kModelDim);
  }
  const Tensor dense = layer.Dense(moved);
  EXPECT_LT(RelativeL2(layer.Run(1, false, moved), dense), 0.6 * RelativeL2(old, dense));
}

TEST_P(DeltaMlpShapes, DoesNotDependOnTheNumberOfThreads) {
  Layer one(Config(0.3, 0.1), 2, 100, GetParam(), 5, 1);
  Layer three(Config(0.3, 0.1), 2, 100, GetParam(), 5, 3);
  for (int64_t step = 0; step < 4; ++step) {
    const Tensor input = one.Input(static_cast<uint64_t>(step));
    EXPECT_LT(RelativeL2(one.Run(step, step == 0, input), three.Run(step, step == 0, input)), 1e-5);
    EXPECT_EQ(one.report.mlp.done, three.report.mlp.done);
  }
}

TEST_P(DeltaMlpShapes, DriftIsTheDistanceOfASparseStepFromTheFullOne) {
  SparsityConfig config = Config(0.3);
  config.should_profile = true;
  Layer layer(config, 2, 100, GetParam(), 5);
  Layer twin(config, 2, 100, GetParam(), 5);
  const Tensor input = layer.Input(1);
  const Tensor moved = Moved(input, 2, 0.2f);
  layer.Run(0, true, input);
  EXPECT_LT(layer.report.mlp_drift.Relative(), 0);
  twin.Run(0, true, input);
  const Tensor full = layer.Run(1, true, moved);
  const Tensor sparse = twin.Run(1, false, moved);
  EXPECT_NEAR(layer.report.mlp_drift.Relative(), RelativeL2(sparse, full), 1e-6);
  EXPECT_GT(layer.report.mlp_drift.Relative(), 1e-3);
  EXPECT_LT(RelativeL2(full, layer.Dense(moved)), 1e-6) << "measuring changes no result";
}

// Groups of 32, 19 of them, 9 on the first rank. Neurons at random tell groups from each other.
TEST_P(DeltaMlpShapes, RanksComputeTheirTokensOfTheWhole) {
  const int64_t tokens = 600;
  for (const bool profiles : {false, true}) {
    SparsityConfig config = Config(0.2, 0.2);
    config.should_profile = profiles;
    Layer whole(config, 1, tokens, GetParam(), 5);
    const std::vector<int64_t> bounds = {0, 288, tokens};
    Layer ranks[] = {{config, 1, tokens, GetParam(), 5, 2, 0, bounds},
                     {config, 1, tokens, GetParam(), 5, 2, 1, bounds}};
    Tensor input = whole.Input(1);
    for (int64_t step = 0; step < 8; ++step) {
      const bool is_full = step % 2 == 0;
      const Tensor expected = whole.Run(step, is_full, input);
      WorkCount work;
      Drift drift;
      for (size_t r = 0; r < 2; ++r) {
        const int64_t begin = bounds[r], end = bounds[r + 1];
        const Tensor output =
            ranks[r].Run(step, is_full, Tensor::CopyOf(input.view().Slice(1, begin, end)));
        EXPECT_LT(RelativeL2(output, Tensor::CopyOf(expected.view().Slice(1, begin, end))), 1e-6);
        work += ranks[r].report.mlp;
        drift += ranks[r].report.mlp_drift;
      }
      EXPECT_EQ(work.done, whole.report.mlp.done);
      EXPECT_EQ(work.dense, whole.report.mlp.dense);
      EXPECT_EQ(drift.is_measured, whole.report.mlp_drift.is_measured);
      EXPECT_NEAR(drift.Relative(), whole.report.mlp_drift.Relative(), 1e-5);
      input = Moved(input, 9, 0.2f);
    }
  }
}

TEST(DeltaMlp, SampledDriftIsNearTheWhole) {
  SparsityConfig config = Config(0.3);
  Layer sampled(config, 1, 512, false, 5);
  config.should_profile = true;
  Layer whole(config, 1, 512, false, 5);
  for (Layer* layer : {&sampled, &whole}) {
    const Tensor input = layer->Input(1);
    layer->Run(0, true, input);
    layer->Run(1, true, Moved(input, 2, 0.2f));
  }
  EXPECT_NEAR(sampled.report.mlp_drift.Relative() / whole.report.mlp_drift.Relative(), 1, 0.2);
}

TEST(DeltaMlp, ReportsTheShareOfNeuronsItSkips) {
  Layer layer(Config(0.25), 2, 100, false, 5);
  layer.Run(0, true, layer.Input(1));
  EXPECT_EQ(layer.report.mlp.Sparsity(), 0);
  layer.Run(1, false, layer.Input(2));
  EXPECT_NEAR(layer.report.mlp.Sparsity(), 0.75, 1e-12);  // 20 of 80, selected exactly
  EXPECT_EQ(layer.report.mlp.dense, 2.0 * 100 * 80);
}

// Random neurons are drawn anew with each selection, so the count tells when one was made.
TEST(DeltaMlp, KeepsASelectionForBlockMaskCacheStepsFromStepTenOn) {
  SparsityConfig config = Config(0.1, 0.5);
  config.mlp.block_mask_cache = 3;
  Layer layer(config, 1, 320, false, 5);
  const auto done = [&](int64_t step, bool is_full) {
    layer.Run(step, is_full, layer.Input(static_cast<uint64_t>(step)));
    return layer.report.mlp.done;
  };
  done(0, true);
  double last = done(1, false);
  std::string renewed;
  for (int64_t step = 2; step < 22; ++step) {
    const bool is_full = step == 16;
    const double now = done(step, is_full);
    renewed += is_full ? 'F' : now != last ? 'n' : '-';
    if (!is_full) last = now;
  }
  //                 steps 2 to 9, 10 and on
  EXPECT_EQ(renewed,
            "nnnnnnnn"
            "--n--nFn--n-");
}

TEST(DeltaMlp, StepsBeforeTheFirstFullOneAreDense) {
  Layer layer(Config(0.1), 1, 64, false, 5);
  const Tensor input = layer.Input(1);
  EXPECT_LT(RelativeL2(layer.Run(0, false, input), layer.Dense(input)), 1e-6);
}

TEST(DenseMlp, TakesRowsInChunksOfAnyNumber) {
  Layer layer(Config(0.1), 2, 1300, true, 5);  // three chunks of at most 512 rows
  const Tensor input = layer.Input(1);
  const Tensor whole = layer.Dense(input);
  Tensor part({2, 300, Layer::kModelDim}, DType::kF32);
  DenseMlp(layer.context, layer.weights.view, input.view().Slice(1, 400, 700), part.view());
  EXPECT_LT(RelativeL2(part, Tensor::CopyOf(whole.view().Slice(1, 400, 700))), 1e-6);
}

}  // namespace
}  // namespace tamias
