// Exact and approximate top-k masks against the plain way in the same run: std::nth_element on a
// copy of each row, then a bit for each score above the threshold. Scores are log-normal, as column
// sums of attention are. Counters: ns_per_score, speedup_over_nth_element.
#include "ops/top_k.h"

#include <benchmark/benchmark.h>
#include <omp.h>

#include <cmath>
#include <functional>
#include <random>

#include "bench_timing.h"
#include "ops/mask.h"

namespace tamias {
namespace {

void PlainTopK(const Tensor& scores, int64_t k, Tensor& mask) {
  const int64_t n = scores.dim(1);
#pragma omp parallel for
  for (int64_t r = 0; r < scores.dim(0); ++r) {
    const float* row = scores.data<float>() + r * n;
    std::vector<float> copy(row, row + n);
    std::nth_element(copy.begin(), copy.begin() + k - 1, copy.end(), std::greater<>());
    uint8_t* bits = mask.data<uint8_t>() + r * mask.dim(1);
    for (int64_t j = 0; j < n; ++j) {
      if (row[j] >= copy[static_cast<size_t>(k - 1)]) {
        bits[j / 8] = static_cast<uint8_t>(bits[j / 8] | (1u << (j % 8)));
      }
    }
  }
}

// Arguments: rows, columns, k in per mille, 1 for the approximate selection.
void BM_TopKMask(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1), k = n * state.range(2) / 1000;
  const bool approximate = state.range(3) != 0;
  Context context(omp_get_max_threads());
  Tensor scores({rows, n}, DType::kF32), mask = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::generate_n(scores.data<float>(), rows * n, [&] { return std::exp(2 * normal(generator)); });
  std::vector<double> seconds, plain_seconds;
  for (auto _ : state) {
    seconds.push_back(bench::Seconds([&] {
      if (approximate) {
        ApproximateTopKMask(context, scores.view(), k, 1024, 1, mask);
      } else {
        TopKMask(context, scores.view(), k, mask);
      }
    }));
    plain_seconds.push_back(bench::Seconds([&] { PlainTopK(scores, k, mask); }));
    state.SetIterationTime(seconds.back());
  }
  const double median = bench::Median(seconds);
  state.counters["ns_per_score"] = 1e9 * median / static_cast<double>(rows * n);
  state.counters["speedup_over_nth_element"] = bench::Median(plain_seconds) / median;
}

BENCHMARK(BM_TopKMask)
    ->ArgNames({"rows", "columns", "k_per_mille", "approximate"})
    ->Args({33, 1024, 300, 0})   // the neurons of the demo model at 512x512
    ->Args({34, 12288, 300, 1})  // FLUX.1 at 1280x768
    ->Args({88, 4132, 165, 0})   // the keys of the demo model: 4 heads, 22 groups
    ->Args({64, 118000, 50, 0})  // HunyuanVideo, some of the groups
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tamias
