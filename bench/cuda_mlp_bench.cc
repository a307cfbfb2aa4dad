// The column-sparse MLP on a GPU (both products, activation, cache update) against cuBLASLt's dense
// MLP (GELU fused into the first product) in the same run, bf16: each iteration times ten calls of
// either, in turn; where the GPU has kernels of its own (ops/cuda/kernel_family.h), those of
// compute capability 8.0 as well. The output cache is f32, as the engine's. Skipped without a GPU
// or without cuBLASLt. Counters:
//   tflops               of the sparse call: 4 tokens x model_dim x chosen neurons per second
//   dense_tflops         of cuBLASLt
//   speedup_over_dense   median dense time by median sparse time
//   arithmetic_fraction  that, by what the share of chosen neurons allows
//   first_ms, second_ms  medians of the two products alone
//   speedup_over_sm80    median time of the kernels of 8.0 by median sparse time
// and of the same call with factors of 8 bits (mlp.is_fp8), where the GPU multiplies these:
//   fp8_speedup_over_dense  with W1 in 8 bits already and the input rounded at each call
//   fp8_first_ms            the first product alone, without rounding
//   fp8_round_fc1_ms        rounding W1, which models in 16 bits pay at each call
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <vector>

#include "base/cuda/device.h"
#include "base/cuda/memory.h"
#include "bench_timing.h"
#include "kernels_of_80.h"
#include "ops/column_sparse_mlp.h"
#include "ops/cuda/cublas_lt.h"
#include "ops/linear.h"
#include "ops/quantise_rows.h"
#include "tamias/error.h"
#include "tamias/random.h"

namespace tamias {
namespace {

constexpr int kCallsPerTiming = 10;

// bf16, uniform in +-scale.
Tensor RandomTensor(cuda::Stream& stream, const Shape& shape, float scale) {
  Tensor host(shape, DType::kBF16);
  for (int64_t i = 0; i < host.NumElements(); ++i) {
    const uint32_t random = CounterRandom(1, static_cast<uint64_t>(i));
    host.data<BFloat16>()[i] = ToBFloat16(scale * (static_cast<float>(random) * 0x1p-31f - 1));
  }
  Tensor device = cuda::DeviceTensor(shape, DType::kBF16, stream.device().index);
  cuda::Copy(stream, host.view(), device);
  stream.Synchronize();
  return device;
}

Tensor ZeroTensor(cuda::Stream& stream, const Shape& shape, DType dtype = DType::kBF16) {
  Tensor device = cuda::DeviceTensor(shape, dtype, stream.device().index);
  cuda::Zero(stream, device);
  return device;
}

Tensor OnDevice(cuda::Stream& stream, const Tensor& host) {
  Tensor device = cuda::DeviceTensor(host.shape(), host.dtype(), stream.device().index);
  cuda::Copy(stream, host.view(), device);
  stream.Synchronize();
  return device;
}

struct Problem {
  int64_t tokens, model_dim, neurons, groups, count;
  Tensor input, fc1, fc1_bias, fc2, fc2_transposed, fc2_bias;
  Tensor cache, delta, output, hidden, dense_output, indices, counts;
  MlpWeights weights;
  NeuronSelection selection;

  Problem(cuda::Stream& stream, int64_t n, int64_t d, int64_t f, double kept, int64_t group_size)
      : tokens(n),
        model_dim(d),
        neurons(f),
        groups((n + group_size - 1) / group_size),
        count(static_cast<int64_t>(static_cast<double>(f) * kept + 0.5)),
        input(RandomTensor(stream, {1, n, d}, 1)),
        fc1(RandomTensor(stream, {f, d}, 0.03f)),
        fc1_bias(RandomTensor(stream, {f}, 0.1f)),
        fc2(RandomTensor(stream, {d, f}, 0.03f)),
        fc2_transposed(RandomTensor(stream, {f, d}, 0.03f)),
        fc2_bias(RandomTensor(stream, {d}, 0.1f)),
        cache(ZeroTensor(stream, {1, groups, f, group_size})),
        delta(ZeroTensor(stream, {1, groups, count, group_size})),
        output(ZeroTensor(stream, {1, n, d}, DType::kF32)),
        hidden(ZeroTensor(stream, {1, n, f})),
        dense_output(ZeroTensor(stream, {1, n, d})) {
    Tensor host_indices({1, groups, count}, DType::kI32), host_counts({1, groups}, DType::kI32);
    std::mt19937 generator(2);
    std::vector<int32_t> all(static_cast<size_t>(f));
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
    for (int64_t g = 0; g < groups; ++g) {
      std::sample(all.begin(), all.end(), host_indices.data<int32_t>() + g * count, count,
                  generator);
      host_counts.data<int32_t>()[g] = static_cast<int32_t>(count);
    }
    indices = OnDevice(stream, host_indices);
    counts = OnDevice(stream, host_counts);
    weights.fc1_weight = fc1.view();
    weights.fc1_bias = fc1_bias.view();
    weights.fc2_weight_transposed = fc2_transposed.view();
    weights.activation = Activation::kGeluTanh;
    selection = {.indices = indices.view(), .counts = counts.view(), .group_size = group_size};
  }
};

// The factors of the first product in 8 bits.
struct Float8Problem {
  explicit Float8Problem(cuda::Stream& stream, const Problem& problem)
      : input_scales(ZeroTensor(stream, {1, problem.tokens}, DType::kF32)),
        input(ZeroTensor(stream, problem.input.shape(), DType::kF8E4M3)),
        fc1_scales(ZeroTensor(stream, {1, problem.neurons}, DType::kF32)),
        fc1(ZeroTensor(stream, {1, problem.neurons, problem.model_dim}, DType::kF8E4M3)),
        weights(problem.weights) {
    weights.fc1_weight = MatrixOf(fc1, fc1_scales);
  }
  void RoundInput(cuda::Stream& stream, const Problem& problem) {
    cuda::QuantiseRows(stream, problem.input.view(), input, input_scales);
  }
  void RoundFc1(cuda::Stream& stream, const Problem& problem) {
    cuda::QuantiseRows(stream, problem.fc1.view().SplitAxis(0, 1, problem.neurons), fc1,
                       fc1_scales);
  }

  Tensor input_scales, input, fc1_scales, fc1;
  MlpWeights weights;
};

// Seconds of one call, of several that run one after another.
template <typename Body>
double SecondsPerCall(cuda::Stream& stream, const Body& body) {
  stream.Synchronize();
  const double seconds = bench::Seconds([&] {
    for (int i = 0; i < kCallsPerTiming; ++i) body();
    stream.Synchronize();
  });
  return seconds / kCallsPerTiming;
}

// Arguments: tokens, model_dim, neurons, neurons kept in per mille, tokens that share a list.
void BM_CudaColumnSparseMlp(benchmark::State& state) {
  if (cuda::DeviceCount() == 0) return state.SkipWithError("no GPU");
  std::unique_ptr<cuda::CublasLt> library;
  try {
    library = std::make_unique<cuda::CublasLt>(Device{DeviceType::kCuda, 0});
  } catch (const Error& error) {
    return state.SkipWithError(error.what());
  }
  cuda::Stream stream;
  Tensor scratch =
      cuda::DeviceTensor({static_cast<int64_t>(cuda::CublasLt::kScratchBytes)}, DType::kU8, 0);
  Problem p(stream, state.range(0), state.range(1), state.range(2),
            static_cast<double>(state.range(3)) / 1000, state.range(4));
  const auto first = [&] {
    cuda::ColumnSparseMlpUp(stream, p.input.view(), p.weights, p.selection, p.cache, p.delta);
  };
  const auto second = [&] {
    cuda::ColumnSparseMlpDown(stream, p.delta.view(), p.weights, p.selection, p.output);
  };
  const auto sparse = [&] {
    cuda::ColumnSparseMlp(stream, p.input.view(), p.weights, p.selection, p.cache, p.delta,
                          p.output);
  };
  const auto dense = [&] {
    cuda::Linear(*library, stream, p.input.view(), p.fc1.view(), p.fc1_bias.view(), scratch,
                 p.hidden, {.activation = Activation::kGeluTanh});
    cuda::Linear(*library, stream, p.hidden.view(), p.fc2.view(), p.fc2_bias.view(), scratch,
                 p.dense_output);
  };
  const bool has_own = bench::HasOwnKernels(stream);
  const bool has_fp8 = cuda::MultipliesFloat8(stream, p.fc1.view());
  std::optional<Float8Problem> in_fp8;
  if (has_fp8) in_fp8.emplace(stream, p);
  const auto round_fc1 = [&] { in_fp8->RoundFc1(stream, p); };
  const auto first_in_fp8 = [&] {
    cuda::ColumnSparseMlpUp(stream, in_fp8->input.view(), in_fp8->weights, p.selection, p.cache,
                            p.delta, in_fp8->input_scales.data<float>());
  };
  const auto sparse_in_fp8 = [&] {
    in_fp8->RoundInput(stream, p);
    first_in_fp8();
    second();
  };
  SecondsPerCall(stream, sparse);
  SecondsPerCall(stream, dense);
  if (has_own) bench::WithKernelsOf80([&] { SecondsPerCall(stream, sparse); });
  if (has_fp8) {
    SecondsPerCall(stream, round_fc1);
    SecondsPerCall(stream, sparse_in_fp8);
  }
  std::vector<double> sparse_seconds, dense_seconds, first_seconds, second_seconds, sm80_seconds;
  std::vector<double> fp8_seconds, fp8_first_seconds, fp8_round_seconds;
  for (auto _ : state) {
    sparse_seconds.push_back(SecondsPerCall(stream, sparse));
    dense_seconds.push_back(SecondsPerCall(stream, dense));
    first_seconds.push_back(SecondsPerCall(stream, first));
    second_seconds.push_back(SecondsPerCall(stream, second));
    if (has_own) {
      bench::WithKernelsOf80([&] { sm80_seconds.push_back(SecondsPerCall(stream, sparse)); });
    }
    if (has_fp8) {
      fp8_seconds.push_back(SecondsPerCall(stream, sparse_in_fp8));
      fp8_first_seconds.push_back(SecondsPerCall(stream, first_in_fp8));
      fp8_round_seconds.push_back(SecondsPerCall(stream, round_fc1));
    }
    state.SetIterationTime(sparse_seconds.back());
  }
  const double flops = 4e-12 * static_cast<double>(p.tokens * p.model_dim);
  const double speedup = bench::Median(dense_seconds) / bench::Median(sparse_seconds);
  state.counters["tflops"] = flops * static_cast<double>(p.count) / bench::Median(sparse_seconds);
  state.counters["dense_tflops"] =
      flops * static_cast<double>(p.neurons) / bench::Median(dense_seconds);
  state.counters["speedup_over_dense"] = speedup;
  state.counters["first_ms"] = 1000 * bench::Median(first_seconds);
  state.counters["second_ms"] = 1000 * bench::Median(second_seconds);
  if (has_own) {
    state.counters["speedup_over_sm80"] =
        bench::Median(sm80_seconds) / bench::Median(sparse_seconds);
  }
  if (has_fp8) {
    state.counters["fp8_speedup_over_dense"] =
        bench::Median(dense_seconds) / bench::Median(fp8_seconds);
    state.counters["fp8_first_ms"] = 1000 * bench::Median(fp8_first_seconds);
    state.counters["fp8_round_fc1_ms"] = 1000 * bench::Median(fp8_round_seconds);
  }
  state.counters["arithmetic_fraction"] =
      speedup * static_cast<double>(p.count) / static_cast<double>(p.neurons);
}

BENCHMARK(BM_CudaColumnSparseMlp)
    ->ArgNames({"tokens", "model_dim", "neurons", "kept", "group"})
    ->Args({4352, 3072, 12288, 300, 128})
    ->Args({4352, 3072, 12288, 300, 256})
    ->Args({4352, 3072, 12288, 150, 128})
    ->Args({16384, 3072, 12288, 300, 128})
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tamias
