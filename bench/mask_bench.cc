// Mask to indices, counting and random bits, against a loop over the bits in the same run.
// Counters: ns_per_column, speedup_over_bit_loop.
#include "ops/mask.h"

#include <benchmark/benchmark.h>
#include <omp.h>

#include "bench_timing.h"

namespace tamias {
namespace {

void BitLoop(const Tensor& mask, int64_t n, Tensor& indices, Tensor& counts) {
#pragma omp parallel for
  for (int64_t r = 0; r < mask.dim(0); ++r) {
    const uint8_t* row = mask.data<uint8_t>() + r * mask.dim(1);
    int32_t* out = indices.data<int32_t>() + r * indices.dim(1);
    int32_t count = 0;
    for (int64_t j = 0; j < n; ++j) {
      if (((row[j / 8] >> (j % 8)) & 1) != 0) out[count++] = static_cast<int32_t>(j);
    }
    counts.data<int32_t>()[r] = count;
  }
}

// Arguments: rows, columns, set bits in per mille.
void BM_MaskToIndices(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1);
  Context context(omp_get_max_threads());
  Tensor mask = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
  Tensor indices({rows, n}, DType::kI32), counts({rows}, DType::kI32);
  RandomMask(context, static_cast<double>(state.range(2)) / 1000, 1, mask, n);
  std::vector<double> seconds, plain_seconds;
  for (auto _ : state) {
    seconds.push_back(
        bench::Seconds([&] { MaskToIndices(context, mask.view(), n, indices, counts); }));
    plain_seconds.push_back(bench::Seconds([&] { BitLoop(mask, n, indices, counts); }));
    state.SetIterationTime(seconds.back());
  }
  const double median = bench::Median(seconds);
  state.counters["ns_per_column"] = 1e9 * median / static_cast<double>(rows * n);
  state.counters["speedup_over_bit_loop"] = bench::Median(plain_seconds) / median;
}

void BM_RandomMask(benchmark::State& state) {
  const int64_t rows = state.range(0), n = state.range(1);
  Context context(omp_get_max_threads());
  Tensor mask = Tensor::Zeros({rows, MaskBytes(n)}, DType::kU8);
  for (auto _ : state) {
    RandomMask(context, static_cast<double>(state.range(2)) / 1000, 1, mask, n);
  }
  state.SetItemsProcessed(state.iterations() * rows * n);
}

void Shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"rows", "columns", "set_per_mille"})
      ->Args({33, 1024, 300})
      ->Args({34, 12288, 300})
      ->Args({88, 4132, 165})
      ->Args({64, 118000, 50})
      ->Unit(benchmark::kMicrosecond);
}
BENCHMARK(BM_MaskToIndices)->Apply(Shapes)->UseManualTime();
BENCHMARK(BM_RandomMask)->Apply(Shapes)->UseRealTime();

}  // namespace
}  // namespace tamias
