// Dense attention: GFLOP/s (4 B H Nq Nk D flops), the share of this machine's FMA peak, and what
// the fused column sums add (over_dense; dense is measured in turn). Of bf16 also how much faster
// it is than f32, measured in turn (speedup_over_f32).
#include "ops/attention.h"

#include <benchmark/benchmark.h>

#include "attention_case.h"

namespace tamias {
namespace {

void BM_DenseAttention(benchmark::State& state) {
  AttentionCase problem(state.range(0), state.range(1), state.range(2), state.range(3));
  const double peak = FmaPeakGflops(problem.context.threads());
  problem.RunDense();
  std::vector<double> seconds;
  for (auto _ : state) {
    seconds.push_back(Seconds([&] { problem.RunDense(); }));
    state.SetIterationTime(seconds.back());
  }
  ReportRate(state, problem.DenseFlops(), Median(seconds), peak);
}

void BM_DenseAttentionBFloat16(benchmark::State& state) {
  AttentionCase problem(state.range(0), state.range(1), state.range(2), state.range(3),
                        DType::kBF16);
  AttentionCase floats(state.range(0), state.range(1), state.range(2), state.range(3));
  const double peak = FmaPeakGflops(problem.context.threads());
  problem.RunDense();
  floats.RunDense();
  std::vector<double> seconds;
  std::vector<double> float_seconds;
  for (auto _ : state) {
    float_seconds.push_back(Seconds([&] { floats.RunDense(); }));
    seconds.push_back(Seconds([&] { problem.RunDense(); }));
    state.SetIterationTime(seconds.back());
  }
  ReportRate(state, problem.DenseFlops(), Median(seconds), peak);
  state.counters["speedup_over_f32"] = Median(float_seconds) / Median(seconds);
}

void RunColumnSums(benchmark::State& state, DType dtype) {
  AttentionCase problem(state.range(0), state.range(1), state.range(2), state.range(3), dtype);
  const double peak = FmaPeakGflops(problem.context.threads());
  problem.RunDense();  // leaves the log-sum-exp that the column sums refer to
  Tensor sums({1, problem.heads, (problem.queries + 191) / 192, problem.keys}, DType::kF32);
  std::vector<double> seconds;
  std::vector<double> dense_seconds;
  for (auto _ : state) {
    dense_seconds.push_back(Seconds([&] { problem.RunDense(); }));
    seconds.push_back(Seconds([&] {
      DenseAttentionColumnSums(problem.context, problem.inputs(), problem.log_sum_exp, 192,
                               problem.output, problem.log_sum_exp, sums);
    }));
    state.SetIterationTime(seconds.back());
  }
  ReportRate(state, problem.DenseFlops(), Median(seconds), peak);
  state.counters["over_dense"] = Median(seconds) / Median(dense_seconds);
}

void BM_DenseAttentionColumnSums(benchmark::State& state) { RunColumnSums(state, DType::kF32); }
void BM_DenseAttentionColumnSumsBFloat16(benchmark::State& state) {
  RunColumnSums(state, DType::kBF16);
}

// The target shape, the demo model at 512x512 (image and text queries), one head of FLUX.1 at
// 1280x768.
void Shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"H", "Nq", "Nk", "D"})
      ->Args({1, 7680, 7680, 128})
      ->Args({4, 4132, 4132, 64})
      ->Args({4, 36, 4132, 64})
      ->Args({1, 4352, 4352, 128})
      ->Unit(benchmark::kMillisecond)
      ->UseManualTime();
}
BENCHMARK(BM_DenseAttention)->Apply(Shapes);
BENCHMARK(BM_DenseAttentionColumnSums)->Apply(Shapes);
BENCHMARK(BM_DenseAttentionBFloat16)->Apply(Shapes);
BENCHMARK(BM_DenseAttentionColumnSumsBFloat16)->Apply(Shapes);

}  // namespace
}  // namespace tamias
