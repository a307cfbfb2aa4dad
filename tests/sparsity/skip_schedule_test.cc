#include "sparsity/skip_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tamias/error.h"

namespace tamias {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;

using Predictions = std::vector<std::vector<float>>;

// Noise levels from 1 to 0, not evenly spaced.
double SigmaOf(int64_t step, int64_t num_steps) {
  const double t = 1 - static_cast<double>(step) / static_cast<double>(num_steps);
  return 2 * t / (1 + t);
}

PredictionTrace TraceOf(const Predictions& predictions) {
  PredictionTrace trace;
  const auto count = static_cast<int64_t>(predictions.size());
  for (int64_t step = 0; step < count; ++step) {
    trace.Add(predictions[static_cast<size_t>(step)], SigmaOf(step, count),
              SigmaOf(step + 1, count));
  }
  return trace;
}

// A walk whose steps have lengths of their own.
Predictions Walk(int64_t num_steps, uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
  Predictions walk;
  std::vector<float> at(6, 0.0f);
  for (int64_t step = 0; step < num_steps; ++step) {
    const double length = std::exp(3 * uniform());
    for (float& x : at) x += static_cast<float>(length * (uniform() - 0.3));
    walk.push_back(at);
  }
  return walk;
}

double SquaredDistance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
  return sum;
}

// The weighted sum of squares that ChooseRuns makes small, from the definition.
// restart: where another model takes over.
double ErrorOf(const Predictions& v, const std::vector<int64_t>& runs, StepReuse reuse,
               int64_t restart = 0) {
  const auto count = static_cast<int64_t>(v.size());
  double total = 0;
  for (size_t r = 0; r < runs.size(); ++r) {
    const int64_t next = r + 1 < runs.size() ? runs[r + 1] : count;
    std::vector<double> e(v[0].size(), 0.0);
    for (int64_t t = runs[r] + 1; t < next; ++t) {
      for (size_t i = 0; i < e.size(); ++i) {
        double u = v[static_cast<size_t>(runs[r])][i];
        if (reuse == StepReuse::kExtrapolate && r > 0 && runs[r] != restart) {
          const double from = SigmaOf(runs[r - 1], count);
          const double slope =
              (u - v[static_cast<size_t>(runs[r - 1])][i]) / (SigmaOf(runs[r], count) - from);
          u += slope * (SigmaOf(t, count) - SigmaOf(runs[r], count));
        }
        e[i] += (SigmaOf(t + 1, count) - SigmaOf(t, count)) * (u - v[static_cast<size_t>(t)][i]);
      }
    }
    double remaining = 0;
    for (size_t t = static_cast<size_t>(runs[r]); t + 1 < v.size(); ++t) {
      const std::vector<float> zero(v[t].size());
      remaining += std::sqrt(SquaredDistance(v[t + 1], v[t]) / SquaredDistance(v[t], zero));
    }
    for (const double x : e) total += x * x * std::exp(2 * kGrowth * remaining);
  }
  return total;
}

// The least error over all ways to run `num_runs` of the steps, the first of each model among them.
double LeastError(const Predictions& v, int64_t num_runs, StepReuse reuse, int64_t restart = 0) {
  const auto count = static_cast<int64_t>(v.size());
  double least = std::numeric_limits<double>::infinity();
  for (uint32_t mask = 0; mask < (1u << (count - 1)); ++mask) {
    if (restart > 0 && (mask >> (restart - 1) & 1) == 0) continue;
    std::vector<int64_t> runs = {0};
    for (int64_t step = 1; step < count; ++step) {
      if ((mask >> (step - 1) & 1) != 0) runs.push_back(step);
    }
    if (static_cast<int64_t>(runs.size()) == num_runs)
      least = std::min(least, ErrorOf(v, runs, reuse, restart));
  }
  return least;
}

TEST(ChooseRuns, FindsTheLeastErrorOfAllSchedules) {
  for (const StepReuse reuse : {StepReuse::kPrediction, StepReuse::kExtrapolate}) {
    for (uint64_t seed = 0; seed < 6; ++seed) {
      const Predictions walk = Walk(11, seed);
      for (const int64_t num_runs : {1, 2, 3, 5, 8, 11}) {
        const PredictionTrace trace = TraceOf(walk);
        const std::vector<int64_t> runs = ChooseRuns({&trace, 1}, num_runs, reuse);
        ASSERT_EQ(static_cast<int64_t>(runs.size()), num_runs);
        EXPECT_EQ(runs.front(), 0);
        EXPECT_TRUE(std::ranges::is_sorted(runs));
        const double least = LeastError(walk, num_runs, reuse);
        EXPECT_NEAR(ErrorOf(walk, runs, reuse), least, 1e-5 * (1 + least)) << seed << num_runs;
      }
    }
  }
}

TEST(ChooseRuns, NothingServesAcrossTheStepWhereAnotherModelTakesOver) {
  for (const StepReuse reuse : {StepReuse::kPrediction, StepReuse::kExtrapolate}) {
    for (const int64_t restart : {1, 4, 10}) {
      const Predictions walk = Walk(11, static_cast<uint64_t>(restart));
      const PredictionTrace trace = TraceOf(walk);
      for (const int64_t num_runs : {2, 3, 5, 11}) {
        const std::vector<int64_t> runs = ChooseRuns({&trace, 1}, num_runs, reuse, restart);
        ASSERT_EQ(static_cast<int64_t>(runs.size()), num_runs);
        EXPECT_TRUE(std::ranges::binary_search(runs, restart));
        const double least = LeastError(walk, num_runs, reuse, restart);
        EXPECT_NEAR(ErrorOf(walk, runs, reuse, restart), least, 1e-5 * (1 + least)) << restart;
      }
      EXPECT_THAT(ChooseRuns({&trace, 1}, 1, reuse, restart), ElementsAre(0, restart));
    }
  }
}

TEST(ChooseRuns, RunsWhereThePredictionChanges) {
  // Still but for steps 3 and 7.
  Predictions v(10, {1.0f, 0.0f});
  for (size_t step = 3; step < 10; ++step) v[step] = {0.0f, 2.0f};
  for (size_t step = 7; step < 10; ++step) v[step] = {-1.0f, 2.0f};
  const PredictionTrace trace = TraceOf(v);
  EXPECT_THAT(ChooseRuns({&trace, 1}, 3, StepReuse::kPrediction), ElementsAre(0, 3, 7));
}

TEST(ChooseRuns, WeighsAllTraces) {
  // One changes at step 2 by little, the other at step 6 by much.
  Predictions a(9, {0.0f, 0.0f}), b = a;
  for (size_t step = 2; step < 9; ++step) a[step] = {0.1f, 0.0f};
  for (size_t step = 6; step < 9; ++step) b[step] = {0.0f, 3.0f};
  const std::vector<PredictionTrace> traces = {TraceOf(a), TraceOf(b)};
  EXPECT_THAT(ChooseRuns({traces.data(), 1}, 2, StepReuse::kHidden), ElementsAre(0, 2));
  EXPECT_THAT(ChooseRuns(traces, 2, StepReuse::kHidden), ElementsAre(0, 6));
}

TEST(ChooseRuns, KeepsNumbersOfRunsThatCanBe) {
  const PredictionTrace trace = TraceOf(Walk(40, 1));
  const std::vector<int64_t> fewest = ChooseRuns({&trace, 1}, 0, StepReuse::kPrediction);
  EXPECT_EQ(fewest.size(), 3u);  // 40 / kMaxRunDistance, rounded up
  std::vector<int64_t> all(40);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  EXPECT_THAT(ChooseRuns({&trace, 1}, 99, StepReuse::kExtrapolate), ElementsAreArray(all));
}

TEST(ChooseRuns, RefusesTracesThatDiffer) {
  const std::vector<PredictionTrace> traces = {TraceOf(Walk(5, 0)), TraceOf(Walk(6, 0))};
  EXPECT_THROW(ChooseRuns(traces, 3, StepReuse::kPrediction), Error);
  EXPECT_THROW(ChooseRuns({}, 3, StepReuse::kPrediction), Error);
  PredictionTrace trace = TraceOf(Walk(2, 0));
  EXPECT_THROW(trace.Add(std::vector<float>(7), 0.5, 0.4), Error);
}

TEST(PredictionTrace, ThinsLargePredictionsEvenly) {
  std::vector<float> ones((size_t{1} << 20) + 5, 1.0f);
  PredictionTrace trace;
  trace.Add(ones, 1, 0.5);
  EXPECT_GT(trace.Product(0, 0), 1 << 17);
  EXPECT_LE(trace.Product(0, 0), 1 << 18);
}

}  // namespace
}  // namespace tamias
