#include "sparsity/step_cache.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

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

// Keeps predictions.
SparsityConfig Config(double threshold) {
  SparsityConfig config = SparsityConfig::Dense();
  config.step_caching.reuse = StepReuse::kPrediction;
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
  StateBuilder state(context);
  StepCache cache(Config(0.25).step_caching, Geometry(), state);
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

TEST(StepCache, HasNothingToGiveBeforeAnythingIsStored) {
  Context context(2);
  StateBuilder state(context);
  const StepCache cache(Config(0.25).step_caching, Geometry(), state);
  Tensor output({2, 130, 4}, DType::kF32);
  ExpectError(ErrorCode::kInvalidArgument, "step cache: a step is skipped before any has stored",
              [&] { cache.Reuse(context, output); });
}

TEST(StepCache, RunsWhenItMust) {
  Context context(1);
  StateBuilder state(context);
  StepCache cache(Config(10).step_caching, Geometry(), state);
  EXPECT_TRUE(cache.ShouldRun(context, true, Constant(1)));
  cache.Store(context, RandomTensor({2, 130, 4}, 1));
  EXPECT_TRUE(cache.ShouldRun(context, true, Constant(1)));
  EXPECT_FALSE(cache.ShouldRun(context, false, Constant(1)));
}

TEST(StepCache, RunsWhenTheInputIsNotANumber) {
  Context context(1);
  StateBuilder state(context);
  StepCache cache(Config(10).step_caching, Geometry(), state);
  cache.ShouldRun(context, true, Constant(1));
  cache.Store(context, RandomTensor({2, 130, 4}, 1));
  EXPECT_TRUE(cache.ShouldRun(context, false, Constant(NAN)));
}

TEST(StepCache, AlwaysRunsWithoutAThresholdAndKeepsThePrediction) {
  Context context(1);
  StateBuilder state(context);
  StepCache cache(Config(0).step_caching, Geometry(), state);
  EXPECT_FALSE(cache.has_value());
  const Tensor prediction = RandomTensor({2, 130, 4}, 1);
  cache.Store(context, prediction);
  EXPECT_TRUE(cache.ShouldRun(context, false, {}));
  Tensor cached(prediction.shape(), DType::kF32);
  cache.Reuse(context, cached);
  EXPECT_EQ(RelativeL2(cached, prediction), 0);
}

TEST(StepCache, KeepsTheHiddenStateByDefault) {
  Context context(1);
  SparsityConfig config = SparsityConfig::Dense();
  config.step_caching.is_enabled = true;
  StateBuilder state(context);
  StepCache cache(config.step_caching, Geometry(), state);
  EXPECT_TRUE(cache.keeps_hidden());
  // The image's rows of a sequence that begins with text.
  const Tensor sequence = RandomTensor({2, 5 + 130, 8}, 1);
  Tensor reused = RandomTensor({2, 5 + 130, 8}, 2);
  cache.Store(context, sequence.view().Slice(1, 5, 135));
  cache.BeginStep(7);
  cache.Reuse(context, reused.view().Slice(1, 5, 135));
  EXPECT_EQ(RelativeL2(Tensor::CopyOf(reused.view().Slice(1, 5, 135)),
                       Tensor::CopyOf(sequence.view().Slice(1, 5, 135))),
            0);
}

TEST(StepCache, HoldsWhatTheFormNeedsInTheTypeOfTheDevice) {
  const size_t hidden = 2 * 130 * 8, prediction = 2 * 130 * 4;
  const auto bytes = [](StepReuse reuse, double threshold, const Placement& placement) {
    SparsityConfig config = Config(threshold);
    config.step_caching.reuse = reuse;
    const Context context = Context::Planning(placement, 1);
    StateBuilder state(context);
    StepCache(config.step_caching, Geometry(), state);
    return state.entries().front().second;
  };
  const Placement bf16 = {{DeviceType::kCuda, 0}, DType::kBF16};
  const Placement f16 = {{DeviceType::kCuda, 0}, DType::kF16};
  EXPECT_EQ(bytes(StepReuse::kHidden, 0, {}), 4 * hidden);
  EXPECT_EQ(bytes(StepReuse::kHidden, 0.5, {}), 8 * hidden);
  EXPECT_EQ(bytes(StepReuse::kPrediction, 0, {}), 4 * prediction);
  EXPECT_EQ(bytes(StepReuse::kExtrapolate, 0, {}), 8 * prediction);
  EXPECT_EQ(bytes(StepReuse::kHidden, 0, bf16), 2 * hidden);
  EXPECT_EQ(bytes(StepReuse::kHidden, 0, f16), 4 * hidden) << "its range is too small";
  EXPECT_EQ(bytes(StepReuse::kExtrapolate, 0, bf16), 8 * prediction);
}

TEST(StepCache, HoldsNothingWhenDisabled) {
  Context context(1);
  StateBuilder state(context);
  StepCache cache(SparsityConfig::Dense().step_caching, Geometry(), state);
  cache.Store(context, RandomTensor({2, 130, 4}, 1));
  EXPECT_FALSE(cache.has_value());
  EXPECT_TRUE(state.entries().empty());
}

TEST(StepCache, DecidesAlikeAtAnyNumberOfThreads) {
  double changes[2] = {0, 0};
  for (const int threads : {1, 3}) {
    Context context(threads);
    StateBuilder state(context);
    StepCache cache(Config(100).step_caching, Geometry(), state);
    cache.ShouldRun(context, false, RandomTensor({2, 130, 8}, 1));
    cache.Store(context, RandomTensor({2, 130, 4}, 1));
    cache.ShouldRun(context, false, RandomTensor({2, 130, 8}, 2));
    changes[threads == 1 ? 0 : 1] = cache.accumulated_change();
  }
  EXPECT_EQ(changes[0], changes[1]);
  EXPECT_GT(changes[0], 0);
}

TEST(StepCache, ExtrapolatesALineThroughTheLastTwoPredictions) {
  Context context(2);
  SparsityConfig config = Config(0);
  config.step_caching.reuse = StepReuse::kExtrapolate;
  StateBuilder state(context);
  StepCache cache(config.step_caching, Geometry(), state);
  const Tensor base = RandomTensor({2, 130, 4}, 1);
  const Tensor slope = RandomTensor({2, 130, 4}, 2);
  const auto line = [&](double time) {
    Tensor value(base.shape(), DType::kF32);
    for (int64_t i = 0; i < value.NumElements(); ++i) {
      value.data<float>()[i] =
          base.data<float>()[i] + static_cast<float>(time) * slope.data<float>()[i];
    }
    return value;
  };
  const auto predicted_at = [&](double time) {
    Tensor value(base.shape(), DType::kF32);
    cache.BeginStep(time);
    cache.Reuse(context, value);
    return value;
  };
  cache.BeginStep(1.0);
  cache.Store(context, line(1.0));
  EXPECT_EQ(RelativeL2(predicted_at(0.9), line(1.0)), 0) << "one prediction makes no line";
  cache.BeginStep(0.7);
  cache.Store(context, line(0.7));
  // fp32 differences of neighbouring values lose a few digits.
  EXPECT_LT(RelativeL2(predicted_at(0.6), line(0.6)), 1e-5);
  EXPECT_LT(RelativeL2(predicted_at(0.4), line(0.4)), 1e-5);
  cache.BeginStep(0.3);
  cache.Store(context, line(0.3));
  EXPECT_LT(RelativeL2(predicted_at(0.1), line(0.1)), 1e-5);
}

}  // namespace
}  // namespace tamias
