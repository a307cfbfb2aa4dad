// What the attention benchmarks share: a case with random inputs, and counters that put a time into
// proportion: gflops, peak, peak_fraction (of the FMA peak measured beside it), speedup_over_dense
// (dense measured in turn with it) and arithmetic_fraction (of dense work / sparse work).
#pragma once

#include <benchmark/benchmark.h>
#include <hwy/targets.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string_view>
#include <vector>

#include "bench_timing.h"
#include "in_type.h"
#include "ops/attention.h"
#include "ops/column_sparse_attention.h"
#include "tamias/fma_peak.h"

namespace tamias {

// TAMIAS_BENCH_TARGET=AVX2 (or SSE4) keeps wider instruction sets from being used.
inline const bool kIsTargetLimited = [] {
  const char* name = std::getenv("TAMIAS_BENCH_TARGET");
  if (name == nullptr) return false;
  for (const int64_t target : {HWY_AVX2, HWY_SSE4}) {
    if (std::string_view(name) == hwy::TargetName(target)) hwy::SetSupportedTargetsForTest(target);
  }
  return true;
}();

using bench::Median;
using bench::Seconds;

// One batch item; queries are [H, Nq, D] in memory, keys and values [H, Nk, D], f32 or bf16.
struct AttentionCase {
  AttentionCase(int64_t num_heads, int64_t num_queries, int64_t num_keys, int64_t dim,
                DType dtype = DType::kF32)
      : heads(num_heads),
        queries(num_queries),
        keys(num_keys),
        head_dim(dim),
        context(Placement{.device = {}, .activation_dtype = dtype}),
        query(bench::InType(Random({1, heads, queries, dim}, 1), dtype)),
        key(bench::InType(Random({1, heads, keys, dim}, 2), dtype)),
        value(bench::InType(Random({1, heads, keys, dim}, 3), dtype)),
        output(Tensor::Zeros({1, heads, queries, dim}, dtype)),
        log_sum_exp(Tensor::Zeros({1, heads, queries}, DType::kF32)) {}

  static Tensor Random(Shape shape, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    Tensor tensor(shape, DType::kF32);
    for (int64_t i = 0; i < tensor.NumElements(); ++i) tensor.data<float>()[i] = normal(random);
    return tensor;
  }

  AttentionInputs inputs() const {
    return {.query = query,
            .key = key,
            .value = value,
            .scale = 1.0f / std::sqrt(static_cast<float>(head_dim))};
  }
  void RunDense() { DenseAttention(context, inputs(), output, log_sum_exp); }
  // Two products of two flops each; softmax is not counted.
  double FlopsOf(double columns) const {
    return 4.0 * static_cast<double>(heads * queries * head_dim) * columns;
  }
  double DenseFlops() const { return FlopsOf(static_cast<double>(keys)); }

  int64_t heads, queries, keys, head_dim;
  Context context;
  Tensor query, key, value, output, log_sum_exp;
};

// Counters from the median time of one run and the peak.
inline void ReportRate(benchmark::State& state, double flops, double seconds, double peak) {
  state.counters["gflops"] = flops / seconds * 1e-9;
  state.counters["peak"] = peak;
  state.counters["peak_fraction"] = flops / seconds * 1e-9 / peak;
  state.SetLabel(SimdTargetName());
}

}  // namespace tamias
