// The dynamic programme's state is the last run and the distance to the one before, since the line
// through the last two depends on both.
#include "sparsity/skip_schedule.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/check.h"

namespace tamias {
namespace {

constexpr size_t kMaxValues = size_t{1} << 18;
constexpr double kUnreachable = std::numeric_limits<double>::infinity();

// A run and the run before it; before step 0 there is none, and distance is 0.
struct Runs {
  int64_t last;
  int64_t distance;
};

// |e|^2 of the steps between runs.last and `next`, the run after it (T: the end); infinite where
// `restart` would be one of them.
double GapError(const PredictionTrace& trace, Runs runs, int64_t next, StepReuse reuse,
                int64_t restart) {
  if (runs.last < restart && restart < next) return kUnreachable;
  const int64_t previous = runs.last - runs.distance;
  const bool is_of_one_model = runs.last < restart || previous >= restart;
  const bool extrapolates =
      reuse == StepReuse::kExtrapolate && runs.distance > 0 && is_of_one_model;
  std::array<int64_t, kMaxRunDistance + 2> steps{previous, runs.last};
  std::array<double, kMaxRunDistance + 2> weights{};  // e = sum of weights[i] v[steps[i]]
  size_t count = 2;
  for (int64_t step = runs.last + 1; step < next; ++step) {
    const double stride = trace.stride(step);
    double slope = 0;
    if (extrapolates) {
      const double span = trace.sigma(runs.last) - trace.sigma(previous);
      if (span != 0) slope = (trace.sigma(step) - trace.sigma(runs.last)) / span;
    }
    weights[0] -= stride * slope;
    weights[1] += stride * (1 + slope);
    steps[count] = step;
    weights[count++] = -stride;
  }
  double error = 0;
  for (size_t i = 0; i < count; ++i) {
    if (weights[i] == 0) continue;
    for (size_t j = 0; j < count; ++j) {
      error += weights[i] * weights[j] * trace.Product(steps[i], steps[j]);
    }
  }
  return std::max(error, 0.0);
}

// The best way to each state with a given number of runs.
class Programme {
 public:
  Programme(std::span<const PredictionTrace> traces, StepReuse reuse, int64_t restart)
      : traces_(traces), reuse_(reuse), restart_(restart), num_steps_(traces[0].num_steps()) {
    layers_.push_back(Layer(num_steps_));
    layers_[0].At({0, 0}).error = 0;
    FillGapErrors();
  }

  void AddRun() {
    Layer layer(num_steps_);
    for (int64_t last = 0; last < num_steps_; ++last) {
      for (int64_t distance = 0; distance <= std::min(last, kMaxRunDistance); ++distance) {
        const Cell& from = layers_.back().At({last, distance});
        if (from.error == kUnreachable) continue;
        for (int64_t step = 1; step <= kMaxRunDistance && last + step < num_steps_; ++step) {
          const double error = from.error + Gap({last, distance}, step);
          Cell& to = layer.At({last + step, step});
          if (error < to.error) to = {error, distance};
        }
      }
    }
    layers_.push_back(std::move(layer));
  }

  // The runs of the best way through all steps.
  std::vector<int64_t> Best() const {
    double least = kUnreachable;
    Runs end{0, 0};
    for (int64_t last = std::max<int64_t>(0, num_steps_ - kMaxRunDistance); last < num_steps_;
         ++last) {
      for (int64_t distance = 0; distance <= std::min(last, kMaxRunDistance); ++distance) {
        const double error = layers_.back().At({last, distance}).error;
        if (error == kUnreachable) continue;
        const double whole = error + Gap({last, distance}, num_steps_ - last);
        if (whole < least) {
          least = whole;
          end = {last, distance};
        }
      }
    }
    std::vector<int64_t> runs;
    for (size_t layer = layers_.size(); layer-- > 0;) {
      runs.push_back(end.last);
      end = {end.last - end.distance, layers_[layer].At(end).before};
    }
    std::ranges::reverse(runs);
    return runs;
  }

 private:
  struct Cell {
    double error = kUnreachable;
    int64_t before = 0;  // the distance between the two runs before
  };
  struct Layer {
    explicit Layer(int64_t steps) : cells(static_cast<size_t>(steps * (kMaxRunDistance + 1))) {}
    Cell& At(Runs runs) { return cells[Index(runs)]; }
    const Cell& At(Runs runs) const { return cells[Index(runs)]; }
    static size_t Index(Runs runs) {
      return static_cast<size_t>(runs.last * (kMaxRunDistance + 1) + runs.distance);
    }
    std::vector<Cell> cells;
  };

  double Gap(Runs runs, int64_t step) const {
    return gaps_[Layer::Index(runs) * kMaxRunDistance + static_cast<size_t>(step - 1)];
  }

  void FillGapErrors() {
    gaps_.resize(layers_[0].cells.size() * kMaxRunDistance);
    for (const PredictionTrace& trace : traces_) {
      for (int64_t last = 0; last < num_steps_; ++last) {
        const double weight = std::exp(2 * kGrowth * trace.Remaining(last));
        for (int64_t distance = 0; distance <= std::min(last, kMaxRunDistance); ++distance) {
          double* gaps = &gaps_[Layer::Index({last, distance}) * kMaxRunDistance];
          for (int64_t step = 1; step <= kMaxRunDistance && last + step <= num_steps_; ++step) {
            gaps[step - 1] +=
                weight * GapError(trace, {last, distance}, last + step, reuse_, restart_);
          }
        }
      }
    }
  }

  std::span<const PredictionTrace> traces_;
  StepReuse reuse_;
  int64_t restart_;
  int64_t num_steps_;
  std::vector<double> gaps_;
  std::vector<Layer> layers_;  // [runs - 1]
};

}  // namespace

void PredictionTrace::Add(std::span<const float> prediction, double sigma, double next_sigma) {
  if (!predictions_.empty() && prediction.size() != size_) {
    Fail(ErrorCode::kInvalidArgument, "prediction: expected {} numbers as before, found {}", size_,
         prediction.size());
  }
  size_ = prediction.size();
  // An odd distance meets every channel, whose number is even.
  const size_t every = (prediction.size() + kMaxValues - 1) / kMaxValues | 1;
  std::vector<float> kept;
  for (size_t i = 0; i < prediction.size(); i += every) kept.push_back(prediction[i]);
  predictions_.push_back(std::move(kept));
  std::vector<double> products;
  for (const std::vector<float>& other : predictions_) {
    products.push_back(std::transform_reduce(
        other.begin(), other.end(), predictions_.back().begin(), 0.0, std::plus<>(),
        [](float a, float b) { return static_cast<double>(a) * static_cast<double>(b); }));
  }
  products_.push_back(std::move(products));
  sigmas_.push_back(sigma);
  strides_.push_back(next_sigma - sigma);
}

double PredictionTrace::Remaining(int64_t step) const {
  double remaining = 0;
  for (int64_t t = step; t + 1 < num_steps(); ++t) {
    const double before = Product(t, t);
    const double change = before + Product(t + 1, t + 1) - 2 * Product(t + 1, t);
    if (before > 0) remaining += std::sqrt(std::max(change, 0.0) / before);
  }
  return remaining;
}

double PredictionTrace::Product(int64_t a, int64_t b) const {
  return products_[static_cast<size_t>(std::max(a, b))][static_cast<size_t>(std::min(a, b))];
}

std::vector<int64_t> ChooseRuns(std::span<const PredictionTrace> traces, int64_t num_runs,
                                StepReuse reuse, int64_t restart) {
  if (traces.empty() || traces[0].num_steps() == 0) {
    Fail(ErrorCode::kInvalidArgument, "skip schedule: no predictions to choose from");
  }
  const int64_t num_steps = traces[0].num_steps();
  for (const PredictionTrace& trace : traces) {
    if (trace.num_steps() != num_steps) {
      Fail(ErrorCode::kInvalidArgument, "skip schedule: runs of {} and of {} steps", num_steps,
           trace.num_steps());
    }
  }
  const auto fewest_of = [](int64_t steps) {
    return (steps + kMaxRunDistance - 1) / kMaxRunDistance;
  };
  const int64_t fewest = fewest_of(restart) + fewest_of(num_steps - restart);
  num_runs = std::clamp(num_runs, fewest, num_steps);
  Programme programme(traces, reuse, restart);
  for (int64_t run = 1; run < num_runs; ++run) programme.AddRun();
  return programme.Best();
}

}  // namespace tamias
