// Attention on a GPU: dense, with column sums, and column-sparse, in bf16 with D 128. Reports
// TFLOP/s over the keys that count, and for the sparse kernel the speed-up over our own dense one,
// measured beside it, with the share of it that the arithmetic allows; where the GPU has kernels of
// its own, the speed-up over those of compute capability 8.0 as well; with text rows, which see
// every key, the speed-up of one launch over two. Shapes: FLUX.1 at 1024 x
// 1024 (4,352 tokens) and 2304 x 1280 (12,032) with all 24 heads; HunyuanVideo at 720 x 1280 x 129
// (119,056) with 4 of its 24 heads, whose column sums alone would be 7 GB otherwise.
#include <benchmark/benchmark.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <random>

#include "base/cuda/device.h"
#include "base/cuda/memory.h"
#include "kernels_of_80.h"
#include "ops/attention.h"
#include "ops/column_sparse_attention.h"

namespace tamias {
namespace {

constexpr int64_t kHeadDim = 128;
constexpr int64_t kGroup = 192;

Tensor RandomRows(cuda::Stream& stream, int64_t heads, int64_t tokens, unsigned seed) {
  Tensor host({1, heads, tokens, kHeadDim}, DType::kBF16);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  BFloat16* data = host.data<BFloat16>();
  const int64_t distinct = std::min<int64_t>(host.NumElements(), 1 << 22);  // then repeated
  for (int64_t i = 0; i < distinct; ++i) data[i] = ToBFloat16(normal(random));
  for (int64_t i = distinct; i < host.NumElements(); ++i) data[i] = data[i - distinct];
  Tensor device = cuda::DeviceTensor(host.shape(), host.dtype(), 0);
  cuda::Copy(stream, host, device);
  stream.Synchronize();
  return device;
}

struct GpuAttention {
  GpuAttention(int64_t head_count, int64_t token_count)
      : heads(head_count),
        tokens(token_count),
        query(RandomRows(stream, heads, tokens, 1)),
        key(RandomRows(stream, heads, tokens, 2)),
        value(RandomRows(stream, heads, tokens, 3)),
        output(cuda::DeviceTensor(query.shape(), DType::kBF16, 0)),
        lse(cuda::DeviceTensor({1, heads, tokens}, DType::kF32, 0)) {}
  AttentionInputs inputs() const {
    return {.query = query,
            .key = key,
            .value = value,
            .scale = 1 / std::sqrt(static_cast<float>(kHeadDim))};
  }
  void Dense() { cuda::DenseAttention(stream, inputs(), output, lse); }
  int64_t Groups() const { return GroupsOf(tokens); }
  static int64_t GroupsOf(int64_t rows) { return (rows + kGroup - 1) / kGroup; }
  double Flops(double keys) const {
    return 4.0 * static_cast<double>(heads * tokens * kHeadDim) * keys;
  }

  // Seconds of one call, over as many as fill about a tenth of a second, after one for warming up.
  template <typename Body>
  double Seconds(const Body& body) {
    const auto seconds_of = [&](int64_t calls) {
      const auto start = std::chrono::steady_clock::now();
      for (int64_t i = 0; i < calls; ++i) body();
      stream.Synchronize();
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    seconds_of(1);
    const auto calls = std::max<int64_t>(1, static_cast<int64_t>(0.1 / seconds_of(1)));
    return seconds_of(calls) / static_cast<double>(calls);
  }

  cuda::Stream stream;
  int64_t heads, tokens;
  Tensor query, key, value, output, lse;
};

bool NoGpu(benchmark::State& state) {
  if (cuda::DeviceCount() > 0) return false;
  state.SkipWithError("no GPU");
  return true;
}

void Report(benchmark::State& state, double flops, double seconds) {
  state.SetIterationTime(seconds);
  state.counters["TFLOPS"] = flops / seconds * 1e-12;
}

template <typename Body>
void CompareWithKernelsOf80(benchmark::State& state, GpuAttention& attention, double seconds,
                            const Body& body) {
  if (!bench::HasOwnKernels(attention.stream)) return;
  bench::WithKernelsOf80(
      [&] { state.counters["speedup_over_sm80"] = attention.Seconds(body) / seconds; });
}

void BM_CudaDenseAttention(benchmark::State& state) {
  if (NoGpu(state)) return;
  GpuAttention attention(state.range(0), state.range(1));
  for (auto _ : state) {
    const auto dense = [&] { attention.Dense(); };
    const double seconds = attention.Seconds(dense);
    Report(state, attention.Flops(static_cast<double>(attention.tokens)), seconds);
    CompareWithKernelsOf80(state, attention, seconds, dense);
  }
}

void BM_CudaColumnSums(benchmark::State& state) {
  if (NoGpu(state)) return;
  GpuAttention attention(state.range(0), state.range(1));
  Tensor sums = cuda::DeviceTensor({1, attention.heads, attention.Groups(), attention.tokens},
                                   DType::kF32, 0);
  attention.Dense();
  for (auto _ : state) {
    const auto with_sums = [&] {
      cuda::DenseAttentionColumnSums(attention.stream, attention.inputs(), attention.lse, kGroup,
                                     attention.output, {}, sums);
    };
    const double seconds = attention.Seconds(with_sums);
    const double dense = attention.Seconds([&] { attention.Dense(); });
    Report(state, attention.Flops(static_cast<double>(attention.tokens)), seconds);
    state.counters["cost_over_dense"] = seconds / dense - 1;
    CompareWithKernelsOf80(state, attention, seconds, with_sums);
  }
}

// `count` columns for each group of so many rows: one at random out of every tokens / count.
struct RandomLists {
  RandomLists(GpuAttention& attention, int64_t rows, int64_t count)
      : indices(cuda::DeviceTensor({1, attention.heads, GpuAttention::GroupsOf(rows), count},
                                   DType::kI32, 0)),
        counts(cuda::DeviceTensor({1, attention.heads, GpuAttention::GroupsOf(rows)}, DType::kI32,
                                  0)) {
    Tensor host(indices.shape(), DType::kI32), host_counts(counts.shape(), DType::kI32);
    std::mt19937 random(7);
    const auto width = static_cast<uint32_t>(attention.tokens / count);
    for (int64_t i = 0; i < host.NumElements(); ++i) {
      host.data<int32_t>()[i] =
          static_cast<int32_t>(static_cast<uint32_t>(i % count) * width + random() % width);
    }
    for (int64_t i = 0; i < counts.NumElements(); ++i) {
      host_counts.data<int32_t>()[i] = static_cast<int32_t>(count);
    }
    cuda::Copy(attention.stream, host, indices);
    cuda::Copy(attention.stream, host_counts, counts);
    attention.stream.Synchronize();
  }
  Tensor indices, counts;
};

// Range 2: columns kept, in thousandths. The result is added to the cache that it is written to.
void BM_CudaColumnSparseAttention(benchmark::State& state) {
  if (NoGpu(state)) return;
  GpuAttention attention(state.range(0), state.range(1));
  const int64_t count = attention.tokens * state.range(2) / 1000;
  const RandomLists lists(attention, attention.tokens, count);
  Tensor cache = cuda::DeviceTensor(attention.output.shape(), DType::kBF16, 0);
  cuda::Zero(attention.stream, cache);
  for (auto _ : state) {
    const double dense = attention.Seconds([&] { attention.Dense(); });
    const auto sparse = [&] {
      cuda::ColumnSparseAttention(
          attention.stream, attention.inputs(),
          {.indices = lists.indices, .counts = lists.counts, .group_size = kGroup}, {.base = cache},
          attention.output);
    };
    const double seconds = attention.Seconds(sparse);
    Report(state, attention.Flops(static_cast<double>(count)), seconds);
    state.counters["speedup_over_dense"] = dense / seconds;
    state.counters["arithmetic_fraction"] =
        dense / seconds * static_cast<double>(count) / static_cast<double>(attention.tokens);
    CompareWithKernelsOf80(state, attention, seconds, sparse);
  }
}

// The first 512 rows are text, as those of FLUX.1.
void BM_CudaColumnSparseAttentionWithText(benchmark::State& state) {
  if (NoGpu(state)) return;
  constexpr int64_t kText = 512;
  GpuAttention attention(state.range(0), state.range(1));
  const int64_t tokens = attention.tokens, image = tokens - kText;
  const int64_t count = tokens * state.range(2) / 1000;
  const RandomLists lists(attention, image, count);
  ColumnSelection selection{.indices = lists.indices, .counts = lists.counts, .group_size = kGroup};
  Tensor cache = cuda::DeviceTensor({1, attention.heads, image, kHeadDim}, DType::kBF16, 0);
  cuda::Zero(attention.stream, cache);
  const TensorView output = attention.output;
  for (auto _ : state) {
    selection.dense_rows = 0;
    const double apart = attention.Seconds([&] {
      cuda::DenseAttention(attention.stream, attention.inputs().OfQueries(0, kText),
                           output.Slice(2, 0, kText));
      cuda::ColumnSparseAttention(attention.stream, attention.inputs().OfQueries(kText, tokens),
                                  selection, {.base = cache}, output.Slice(2, kText, tokens));
    });
    selection.dense_rows = kText;
    const auto together = [&] {
      cuda::ColumnSparseAttention(attention.stream, attention.inputs(), selection, {.base = cache},
                                  output);
    };
    const double seconds = attention.Seconds(together);
    const auto keys = static_cast<double>(count * image + tokens * kText);  // of all rows
    Report(state, attention.Flops(keys / static_cast<double>(tokens)), seconds);
    state.counters["speedup_over_two_launches"] = apart / seconds;
    CompareWithKernelsOf80(state, attention, seconds, together);
  }
}

constexpr int64_t kShapes[][2] = {{24, 4352}, {24, 12032}, {4, 119056}};  // heads, tokens

void DenseShapes(benchmark::internal::Benchmark* bench) {
  for (const auto& [heads, tokens] : kShapes) bench->Args({heads, tokens});
  bench->ArgNames({"H", "N"})->Unit(benchmark::kMillisecond)->UseManualTime()->Iterations(3);
}
void SparseShapes(benchmark::internal::Benchmark* bench) {
  for (const auto& [heads, tokens] : kShapes) {
    for (const int64_t keep : {165, 70, 50}) bench->Args({heads, tokens, keep});
  }
  bench->ArgNames({"H", "N", "keep"})->Unit(benchmark::kMillisecond)->UseManualTime();
  bench->Iterations(3);
}
void TextShapes(benchmark::internal::Benchmark* bench) {
  for (const int64_t tokens : {4352, 12032}) bench->Args({24, tokens, 165});
  bench->ArgNames({"H", "N", "keep"})->Unit(benchmark::kMillisecond)->UseManualTime();
  bench->Iterations(3);
}
BENCHMARK(BM_CudaDenseAttention)->Apply(DenseShapes);
BENCHMARK(BM_CudaColumnSums)->Apply(DenseShapes);
BENCHMARK(BM_CudaColumnSparseAttention)->Apply(SparseShapes);
BENCHMARK(BM_CudaColumnSparseAttentionWithText)->Apply(TextShapes);

}  // namespace
}  // namespace tamias
