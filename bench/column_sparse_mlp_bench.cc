// The column-sparse MLP (both products, activation, cache update), in f32 or bf16, against oneDNN's
// dense MLP of the same type in the same run: each iteration times one call of either, in turn.
// Counters:
//   gflops               of the sparse call: 4 tokens x model_dim x chosen neurons per second
//   peak_fraction        that, by the FMA peak measured in the same run
//   dense_gflops         of oneDNN
//   speedup_over_dense   median dense time by median sparse time
//   arithmetic_fraction  that, by what the share of chosen neurons allows
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "bench_timing.h"
#include "dense_mlp_peer.h"
#include "in_type.h"
#include "ops/block_mean.h"
#include "ops/column_sparse_mlp.h"
#include "ops/copy_indices.h"
#include "ops/linear.h"
#include "ops/mask.h"
#include "ops/top_k.h"
#include "tamias/fma_peak.h"

namespace tamias {
namespace {

Tensor RandomTensor(Shape shape, float scale, DType dtype = DType::kF32) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, scale);
  Tensor tensor(shape, DType::kF32);
  std::generate_n(tensor.data<float>(), tensor.NumElements(), [&] { return normal(generator); });
  return bench::InType(tensor, dtype);
}

struct Problem {
  int64_t tokens, model_dim, neurons, groups, count;
  Tensor input, fc1, fc1_bias, fc2, fc2_transposed, fc2_bias, cache, output, indices, counts;
  MlpWeights weights;
  NeuronSelection selection;

  Problem(int64_t n, int64_t d, int64_t f, double kept, DType dtype = DType::kF32)
      : tokens(n),
        model_dim(d),
        neurons(f),
        groups((n + 127) / 128),
        count(static_cast<int64_t>(static_cast<double>(f) * kept + 0.5)),
        input(RandomTensor({1, n, d}, 1, dtype)),
        fc1(RandomTensor({f, d}, 0.02f, dtype)),
        fc1_bias(RandomTensor({f}, 0.1f)),
        fc2(RandomTensor({d, f}, 0.02f, dtype)),
        fc2_transposed(Tensor::CopyOf(fc2.view().Permute({1, 0}))),
        fc2_bias(RandomTensor({d}, 0.1f)),
        cache(Tensor::Zeros({1, groups, f, 128}, dtype)),
        output(Tensor::Zeros({1, n, d}, DType::kF32)),
        indices({1, groups, count}, DType::kI32),
        counts({1, groups}, DType::kI32) {
    std::mt19937 generator(2);
    std::vector<int32_t> all(static_cast<size_t>(f));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    for (int64_t g = 0; g < groups; ++g) {
      std::sample(all.begin(), all.end(), indices.data<int32_t>() + g * count, count, generator);
      counts.data<int32_t>()[g] = static_cast<int32_t>(count);
    }
    weights.fc1_weight = fc1.view();
    weights.fc1_bias = fc1_bias.view();
    weights.fc2_weight = fc2.view();
    weights.fc2_weight_transposed = fc2_transposed.view();
    weights.fc2_bias = fc2_bias.view();
    weights.activation = Activation::kGeluTanh;
    selection = {.indices = indices.view(), .counts = counts.view(), .group_size = 128};
  }
};

// Arguments: tokens, model_dim, neurons, neurons kept in per mille.
void RunMlp(benchmark::State& state, DType dtype) {
  const double kept = static_cast<double>(state.range(3)) / 1000;
  Problem p(state.range(0), state.range(1), state.range(2), kept, dtype);
  Context context(Placement{.device = {}, .activation_dtype = dtype}, omp_get_max_threads());
  using Type = dnnl::memory::data_type;
  bench::DenseMlpPeer peer(dtype == DType::kBF16 ? Type::bf16 : Type::f32, p.tokens, p.model_dim,
                           p.neurons, p.fc1.view().raw(), p.fc1_bias.view().raw(),
                           p.fc2.view().raw(), p.fc2_bias.view().raw());
  Tensor dense_output({1, p.tokens, p.model_dim}, dtype);
  const auto sparse = [&] {
    ColumnSparseMlp(context, p.input.view(), p.weights, p.selection, p.cache, p.output);
  };
  const auto dense = [&] { peer.Run(p.input.view().raw(), dense_output.view().raw()); };
  sparse();
  dense();
  const double peak = FmaPeakGflops(context.threads());
  std::vector<double> sparse_seconds, dense_seconds;
  for (auto _ : state) {
    sparse_seconds.push_back(bench::Seconds(sparse));
    dense_seconds.push_back(bench::Seconds(dense));
    state.SetIterationTime(sparse_seconds.back());
  }
  const double flops = 4e-9 * static_cast<double>(p.tokens * p.model_dim);
  const double gflops = flops * static_cast<double>(p.count) / bench::Median(sparse_seconds);
  const double speedup = bench::Median(dense_seconds) / bench::Median(sparse_seconds);
  state.counters["gflops"] = gflops;
  state.counters["peak_fraction"] = gflops / peak;
  state.counters["dense_gflops"] =
      flops * static_cast<double>(p.neurons) / bench::Median(dense_seconds);
  state.counters["speedup_over_dense"] = speedup;
  state.counters["arithmetic_fraction"] =
      speedup * static_cast<double>(p.count) / static_cast<double>(p.neurons);
}

void BM_ColumnSparseMlp(benchmark::State& state) { RunMlp(state, DType::kF32); }
void BM_ColumnSparseMlpBFloat16(benchmark::State& state) { RunMlp(state, DType::kBF16); }

void Shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"tokens", "model_dim", "neurons", "kept"})
      ->Args({4096, 256, 1024, 300})
      ->Args({4132, 256, 1024, 300})
      ->Args({4096, 768, 3072, 300})
      ->Args({4096, 768, 3072, 150})
      ->Args({4096, 3072, 12288, 300})
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}
BENCHMARK(BM_ColumnSparseMlp)->Apply(Shapes);
BENCHMARK(BM_ColumnSparseMlpBFloat16)->Apply(Shapes);

// What a sparse step spends on choosing neurons: block means, fc1 of them, the change against the
// cached means, top-k, random neurons, indices, and the write-back of the means.
// share_of_sparse_step: of a step that refreshes its selection (this, then the sparse MLP).
void BM_NeuronSelection(benchmark::State& state) {
  Problem p(state.range(0), state.range(1), state.range(2),
            static_cast<double>(state.range(3)) / 1000);
  Context context(omp_get_max_threads());
  Tensor means({1, p.groups, p.model_dim}, DType::kF32);
  Tensor hidden({p.groups, p.neurons}, DType::kF32), change({p.groups, p.neurons}, DType::kF32);
  Tensor cached = RandomTensor({p.groups, p.neurons}, 0.1f);
  Tensor mask({p.groups, MaskBytes(p.neurons)}, DType::kU8);
  Tensor indices({p.groups, p.neurons}, DType::kI32), counts({p.groups}, DType::kI32);
  const auto select = [&] {
    BlockMean(context, p.input.view(), 128, means);
    Linear(context, means.view().Reshape({p.groups, p.model_dim}), p.fc1.view(), p.fc1_bias.view(),
           hidden);
    for (int64_t i = 0; i < change.NumElements(); ++i) {
      change.data<float>()[i] = std::abs(hidden.data<float>()[i] - cached.data<float>()[i]);
    }
    std::fill_n(mask.data<uint8_t>(), mask.NumElements(), uint8_t{0});
    ApproximateTopKMask(context, change.view(), p.count, 1024, 1, mask);
    RandomMask(context, 0.05, 2, mask, p.neurons);
    MaskToIndices(context, mask.view(), p.neurons, indices, counts);
    CopyIndices(context, hidden.view(), indices.view(), counts.view(), cached);
  };
  const auto sparse = [&] {
    ColumnSparseMlp(context, p.input.view(), p.weights, p.selection, p.cache, p.output);
  };
  select();
  sparse();
  std::vector<double> select_seconds, sparse_seconds;
  for (auto _ : state) {
    select_seconds.push_back(bench::Seconds(select));
    sparse_seconds.push_back(bench::Seconds(sparse));
    state.SetIterationTime(select_seconds.back());
  }
  const double selection = bench::Median(select_seconds);
  state.counters["share_of_sparse_step"] = selection / (selection + bench::Median(sparse_seconds));
}

BENCHMARK(BM_NeuronSelection)
    ->ArgNames({"tokens", "model_dim", "neurons", "kept"})
    ->Args({4096, 256, 1024, 300})
    ->Args({4096, 768, 3072, 300})
    ->Args({4096, 3072, 12288, 300})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tamias
