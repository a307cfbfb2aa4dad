// Attention of one layer of a language model's prefill (8 heads, D 128, causal): dense against
// column-sparse, whose columns are chosen for each group of 192 rows: its own 192 and, of those
// before, those with the largest column sums. Two ways to choose: by the column sums, which cost
// more than dense attention itself and show what a selection can reach; and by the scores of each
// group's mean query, whose cost is included in with_selection.
//
// The inputs are constructed, not a model's: what language models are known for, in sizes chosen
// here. Attention sinks: the first four keys have four times the norm of others, along a direction
// that all queries share, and small values; one in 64 keys, at random, lies half as far along it. A
// local band: queries and keys follow one random walk, so that near tokens are alike (correlation
// 0.97 from one to the next). The rest is noise.
//
// Counters, medians of runs in turn: speedup over causal dense attention, of the sparse operation
// alone and with_selection; pairs, the share of the (query, key) pairs of dense attention that are
// computed; arithmetic_fraction, speedup * pairs; mass, the share of a row's softmax weights that
// the chosen columns have, on average; relative_l2, the error of the output.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "attention_case.h"
#include "ops/block_mean.h"
#include "ops/distance.h"
#include "ops/linear.h"
#include "ops/mask.h"
#include "ops/top_k.h"

namespace tamias {
namespace {

constexpr int64_t kHeads = 8;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kGroup = 192;

struct Prefill : AttentionCase {
  explicit Prefill(int64_t tokens) : AttentionCase(kHeads, tokens, tokens, kHeadDim) {
    for (int64_t head = 0; head < kHeads; ++head) Construct(head);
  }

  // query, key and value are noise already.
  void Construct(int64_t head) {
    std::mt19937 random(static_cast<uint32_t>(100 + head));
    std::normal_distribution<float> normal;
    std::uniform_int_distribution<int> one_in(0, 63);
    std::vector<float> shared(kHeadDim), walk(kHeadDim);
    for (float& x : shared) x = normal(random) / std::sqrt(static_cast<float>(kHeadDim));
    for (float& x : walk) x = normal(random);
    for (int64_t i = 0; i < keys; ++i) {
      const bool is_sink = i < 4;
      const float along = is_sink ? 40.0f : one_in(random) == 0 ? 20.0f : 0.0f;
      const int64_t row = (head * keys + i) * kHeadDim;
      for (int64_t k = 0; k < kHeadDim; ++k) {
        float& x = walk[static_cast<size_t>(k)];
        const float u = shared[static_cast<size_t>(k)];
        x = 0.97f * x + std::sqrt(1 - 0.97f * 0.97f) * normal(random);
        float& q = query.data<float>()[row + k];
        float& key_element = key.data<float>()[row + k];
        q = 0.6f * q + 0.7f * x + 3 * u;
        key_element = 0.6f * key_element + (is_sink ? 0.0f : 0.7f * x) + along * u;
        if (is_sink) value.data<float>()[row + k] *= 0.1f;
      }
    }
  }

  AttentionInputs causal() const {
    AttentionInputs all = inputs();
    all.causal = true;
    return all;
  }
  void RunCausal() { DenseAttention(context, causal(), output, log_sum_exp); }
  int64_t Groups() const { return (queries + kGroup - 1) / kGroup; }
  double VisiblePairs() const {  // of a head
    return static_cast<double>(queries) * static_cast<double>(queries + 1) / 2;
  }
};

// Causal dense attention, and its time as a share of bidirectional attention's: half of the pairs.
void BM_CausalDense(benchmark::State& state) {
  Prefill problem(state.range(0));
  const double peak = FmaPeakGflops(problem.context.threads());
  problem.RunCausal();
  std::vector<double> seconds, bidirectional_seconds;
  for (auto _ : state) {
    bidirectional_seconds.push_back(Seconds([&] { problem.RunDense(); }));
    seconds.push_back(Seconds([&] { problem.RunCausal(); }));
    state.SetIterationTime(seconds.back());
  }
  const double pairs = static_cast<double>(kHeads) * problem.VisiblePairs();
  ReportRate(state, 4.0 * kHeadDim * pairs, Median(seconds), peak);
  state.counters["of_bidirectional"] = Median(seconds) / Median(bidirectional_seconds);
}

// The columns of each group: its own, and a share of those before it by falling column sums.
enum class Choice { kColumnSums, kMeanQuery };

class Columns {
 public:
  explicit Columns(Prefill& problem)
      : problem_(problem),
        mask_(Tensor::Zeros({kHeads * problem.Groups(), MaskBytes(problem.keys)}, DType::kU8)),
        indices_({1, kHeads, problem.Groups(), problem.keys}, DType::kI32),
        counts_({1, kHeads, problem.Groups()}, DType::kI32) {}

  ColumnSelection view() const {
    return {.indices = indices_, .counts = counts_, .group_size = kGroup};
  }

  void Select(Choice choice, double share) {
    std::fill_n(mask_.data<uint8_t>(), mask_.NumElements(), uint8_t{0});
    Workspace::Scope scope(problem_.context.workspace());
    const TensorView scores = problem_.context.workspace().Allocate(
        {kHeads, problem_.Groups(), problem_.keys}, DType::kF32);
    choice == Choice::kColumnSums ? SumColumns(scores) : ScoreMeanQueries(scores);
    for (int64_t list = 0; list < mask_.dim(0); ++list) {
      const int64_t begin = list % problem_.Groups() * kGroup;
      const TensorView row = mask_.view().Slice(0, list, list + 1);
      SetMaskRange(mask_, list, begin, std::min(begin + kGroup, problem_.keys));
      if (begin == 0) continue;
      TopKMask(
          problem_.context,
          scores.Reshape({mask_.dim(0), problem_.keys}).Slice(0, list, list + 1).Slice(1, 0, begin),
          std::llround(share * static_cast<double>(begin)), row.Slice(1, 0, MaskBytes(begin)));
    }
    MaskToIndices(problem_.context, mask_, problem_.keys,
                  indices_.view().Reshape({mask_.dim(0), problem_.keys}),
                  counts_.view().Reshape({mask_.dim(0)}));
  }

  // Of a head, on average.
  double Pairs() const {
    int64_t pairs = 0;
    for (int64_t list = 0; list < counts_.NumElements(); ++list) {
      const int64_t begin = list % problem_.Groups() * kGroup;
      const int64_t rows = std::min(kGroup, problem_.queries - begin);
      const int64_t before = counts_.data<int32_t>()[list] - rows;  // all rows see these
      pairs += rows * before + rows * (rows + 1) / 2;
    }
    return static_cast<double>(pairs) / kHeads;
  }

 private:
  // scores [H, G, N].
  void SumColumns(TensorView scores) {
    problem_.RunCausal();
    DenseAttentionColumnSums(problem_.context, problem_.causal(), problem_.log_sum_exp, kGroup,
                             problem_.output, {},
                             scores.Reshape({1, kHeads, problem_.Groups(), problem_.keys}));
  }

  void ScoreMeanQueries(TensorView scores) {
    Context& context = problem_.context;
    const TensorView means =
        context.workspace().Allocate({kHeads, problem_.Groups(), kHeadDim}, DType::kF32);
    BlockMean(context, problem_.query.view().Select(0, 0), kGroup, means);
    for (int64_t head = 0; head < kHeads; ++head) {
      Linear(context, means.Select(0, head), problem_.key.view().Select(0, 0).Select(0, head), {},
             scores.Select(0, head));
    }
  }

  Prefill& problem_;
  Tensor mask_, indices_, counts_;
};

// The mean over all rows of the softmax weight of the chosen columns.
double Mass(const Tensor& selected, const Tensor& all) {
  double sum = 0;
  for (int64_t i = 0; i < all.NumElements(); ++i) {
    sum += std::exp(double{selected.data<float>()[i]} - double{all.data<float>()[i]});
  }
  return sum / static_cast<double>(all.NumElements());
}

// Range 1: the share of the columns before a group, in hundredths.
void BM_CausalColumnSparse(benchmark::State& state, Choice choice) {
  Prefill problem(state.range(0));
  const double share = static_cast<double>(state.range(1)) / 100;
  Columns columns(problem);
  Tensor output(problem.output.shape(), DType::kF32);
  Tensor log_sum_exp(problem.log_sum_exp.shape(), DType::kF32);
  const auto run = [&] {
    ColumnSparseAttention(problem.context, problem.causal(), columns.view(), {}, output,
                          log_sum_exp);
  };
  columns.Select(choice, share);
  run();
  problem.RunCausal();
  std::vector<double> dense, sparse, selection;
  for (auto _ : state) {
    dense.push_back(Seconds([&] { problem.RunCausal(); }));
    selection.push_back(Seconds([&] { columns.Select(choice, share); }));
    sparse.push_back(Seconds(run));
    state.SetIterationTime(sparse.back());
  }
  const Distance distance = MeasureDistance(problem.context, output, problem.output);
  const double pairs = columns.Pairs() / problem.VisiblePairs();
  const double speedup = Median(dense) / Median(sparse);
  state.counters["speedup"] = speedup;
  state.counters["with_selection"] = Median(dense) / (Median(sparse) + Median(selection));
  state.counters["pairs"] = pairs;
  state.counters["arithmetic_fraction"] = speedup * pairs;
  state.counters["mass"] = Mass(log_sum_exp, problem.log_sum_exp);
  state.counters["relative_l2"] = std::sqrt(distance.squared / distance.squared_reference);
  state.SetLabel(SimdTargetName());
}

void Configure(benchmark::internal::Benchmark* bench) {
  bench->Unit(benchmark::kMillisecond)->UseManualTime();
}
BENCHMARK(BM_CausalDense)->Apply(Configure)->ArgName("N")->Arg(4096)->Arg(8192)->Iterations(7);
void Shares(benchmark::internal::Benchmark* bench) {
  Configure(bench);
  bench->ArgNames({"N", "keep"})->ArgsProduct({{4096, 8192}, {5, 10, 20}})->Iterations(5);
}
BENCHMARK_CAPTURE(BM_CausalColumnSparse, column_sums, Choice::kColumnSums)->Apply(Shares);
BENCHMARK_CAPTURE(BM_CausalColumnSparse, mean_query, Choice::kMeanQuery)->Apply(Shares);

}  // namespace
}  // namespace tamias
