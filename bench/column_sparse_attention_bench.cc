// Column-sparse attention at several sparsities: GFLOP/s over the chosen columns, the speed-up over
// our own dense attention of the same type, measured in turn, and the share of it that the
// arithmetic allows.
#include "ops/column_sparse_attention.h"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <numeric>

#include "attention_case.h"

namespace tamias {
namespace {

constexpr int64_t kGroup = 192;

// The same number of random columns for each group.
struct RandomColumns {
  RandomColumns(int64_t heads, int64_t groups, int64_t keys, int64_t count)
      : indices({1, heads, groups, count}, DType::kI32), counts({1, heads, groups}, DType::kI32) {
    std::mt19937 random(7);
    std::vector<int32_t> all(static_cast<size_t>(keys));
    std::iota(all.begin(), all.end(), 0);
    for (int64_t list = 0; list < heads * groups; ++list) {
      std::sample(all.begin(), all.end(), indices.data<int32_t>() + list * count, count, random);
      counts.data<int32_t>()[list] = static_cast<int32_t>(count);
    }
  }
  Tensor indices, counts;
};

// Range 4: columns kept, in thousandths. The output is added to the cache it is written to.
void RunSparse(benchmark::State& state, DType dtype) {
  AttentionCase problem(state.range(0), state.range(1), state.range(2), state.range(3), dtype);
  const int64_t count = (problem.keys * state.range(4) + 500) / 1000;
  const RandomColumns columns(problem.heads, (problem.queries + kGroup - 1) / kGroup, problem.keys,
                              count);
  const ColumnSelection selection{
      .indices = columns.indices, .counts = columns.counts, .group_size = kGroup};
  const double peak = FmaPeakGflops(problem.context.threads());
  problem.RunDense();
  const Tensor cache = Tensor::CopyOf(problem.output);
  std::vector<double> seconds;
  std::vector<double> dense_seconds;
  for (auto _ : state) {
    dense_seconds.push_back(Seconds([&] { problem.RunDense(); }));
    seconds.push_back(Seconds([&] {
      ColumnSparseAttention(problem.context, problem.inputs(), selection, {.base = cache},
                            problem.output);
    }));
    state.SetIterationTime(seconds.back());
  }
  const double flops = problem.FlopsOf(static_cast<double>(count));
  const double speedup = Median(dense_seconds) / Median(seconds);
  ReportRate(state, flops, Median(seconds), peak);
  state.counters["speedup_over_dense"] = speedup;
  state.counters["arithmetic_fraction"] = speedup / (problem.DenseFlops() / flops);
}

void BM_ColumnSparseAttention(benchmark::State& state) { RunSparse(state, DType::kF32); }
void BM_ColumnSparseAttentionBFloat16(benchmark::State& state) { RunSparse(state, DType::kBF16); }

void Shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"H", "Nq", "Nk", "D", "keep"})->Unit(benchmark::kMillisecond)->UseManualTime();
  for (const int64_t keep : {165, 70, 50}) bench->Args({1, 7680, 7680, 128, keep});
  for (const int64_t keep : {300, 165, 100, 50}) bench->Args({4, 4096, 4132, 64, keep});
  bench->Iterations(20);
}
BENCHMARK(BM_ColumnSparseAttention)->Apply(Shapes);
BENCHMARK(BM_ColumnSparseAttentionBFloat16)->Apply(Shapes);

}  // namespace
}  // namespace tamias
