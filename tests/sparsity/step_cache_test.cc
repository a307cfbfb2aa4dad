#include "sparsity/step_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "random_tensors.h"

namespace tamias {
namespace {

SparseGeometry Geometry() {
  SparseGeometry geometry;
  geometry.batch = 2;
  geometry.grid = {1, 10, 13};
  geometry.model_dim = 8;
  geometry.prediction_channels = 4;
  return geometry;
}

SparsityConfig Config(double threshold) {
  SparsityConfig config = SparsityConfig::Dense();
  config.step_caching.is_enabled = true;
  config.step_caching.threshold = threshold;
  return config;
}

Tensor Constant(float value) {
  Tensor tensor({2, 130, 8}, DType::kF32);
  for (int64_t i = 0; i < tensor.NumElements(); ++i) tensor.data<float>()[i] = value;
  return tensor;
}

TEST(StepCache, SkipsUntilTheSummedChangeReachesTheThreshold) {
  Context context(2);
  StateBuilder state(false);
  StepCache cache(Config(0.25), Geometry(), state);
  const Tensor prediction = RandomTensor({2, 130, 4}, 1);
  EXPECT_TRUE(cache.ShouldRun(context, false, Constant(1.0f))) << "nothing to repeat yet";
  cache.Store(context, prediction);
  EXPECT_FALSE(cache.ShouldRun(context, false, Constant(1.1f)));  // 0.1
  EXPECT_NEAR(cache.accumulated_change(), 0.1, 1e-6);
  EXPECT_FALSE(cache.ShouldRun(context, false, Constant(1.21f)));  // 0.2
  EXPECT_TRUE(cache.ShouldRun(context, false, Constant(1.331f)));  // 0.3: run, begin anew
  EXPECT_EQ(cache.accumulated_change(), 0);
  EXPECT_FALSE(cache.ShouldRun(context, false, Constant(1.331f)));
}

TEST(StepCache, RunsWhenItMust) {
  Context context(1);
  StateBuilder state(false);
  StepCache cache(Config(10), Geometry(), state);
  EXPECT_TRUE(cache.ShouldRun(context, true, Constant(1)));
  cache.Store(context, RandomTensor({2, 130, 4}, 1));
  EXPECT_TRUE(cache.ShouldRun(context, true, Constant(1)));
  EXPECT_FALSE(cache.ShouldRun(context, false, Constant(1)));
}

TEST(StepCache, RunsWhenTheInputIsNotANumber) {
  Context context(1);
  StateBuilder state(false);
  StepCache cache(Config(10), Geometry(), state);
  cache.ShouldRun(context, true, Constant(1));
  cache.Store(context, RandomTensor({2, 130, 4}, 1));
  EXPECT_TRUE(cache.ShouldRun(context, false, Constant(NAN)));
}

TEST(StepCache, AlwaysRunsWithoutAThresholdAndKeepsThePrediction) {
  Context context(1);
  StateBuilder state(false);
  StepCache cache(Config(0), Geometry(), state);
  EXPECT_TRUE(cache.prediction().empty());
  const Tensor prediction = RandomTensor({2, 130, 4}, 1);
  cache.Store(context, prediction);
  EXPECT_TRUE(cache.ShouldRun(context, false, {}));
  EXPECT_EQ(RelativeL2(Tensor::CopyOf(cache.prediction()), prediction), 0);
}

TEST(StepCache, HoldsNothingWhenDisabled) {
  Context context(1);
  StateBuilder state(false);
  StepCache cache(SparsityConfig::Dense(), Geometry(), state);
  cache.Store(context, RandomTensor({2, 130, 4}, 1));
  EXPECT_TRUE(cache.prediction().empty());
  EXPECT_TRUE(state.entries().empty());
}

TEST(StepCache, DecidesAlikeAtAnyNumberOfThreads) {
  double changes[2] = {0, 0};
  for (const int threads : {1, 3}) {
    Context context(threads);
    StateBuilder state(false);
    StepCache cache(Config(100), Geometry(), state);
    cache.ShouldRun(context, false, RandomTensor({2, 130, 8}, 1));
    cache.Store(context, RandomTensor({2, 130, 4}, 1));
    cache.ShouldRun(context, false, RandomTensor({2, 130, 8}, 2));
    changes[threads == 1 ? 0 : 1] = cache.accumulated_change();
  }
  EXPECT_EQ(changes[0], changes[1]);
  EXPECT_GT(changes[0], 0);
}

}  // namespace
}  // namespace tamias
