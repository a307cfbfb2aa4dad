// What surrounds the matrix products at the demo model's shapes (d 256, 4 heads of 64, 4,132
// tokens) and at FLUX.1's (d 3072): bytes moved per second and their share of what memcpy reaches
// over as many bytes in the same run.
#include "ops/norm.h"

#include "ops/residual.h"
#include "ops/rotary.h"
#include "rates.h"

namespace tamias {
namespace {

void BM_LayerNormModulate(benchmark::State& state) {
  const int64_t tokens = state.range(0), width = state.range(1);
  Context context;
  const Tensor input = bench::Noise({1, tokens, width}), shift = bench::Noise({1, width});
  Tensor output({1, tokens, width}, DType::kF32);
  bench::RunTraffic(state, context, 8.0 * static_cast<double>(tokens * width),
                    [&] { LayerNormModulate(context, input, shift, shift, 1e-6f, output); });
}

void BM_ResidualWithoutNorm(benchmark::State& state) {
  const int64_t tokens = state.range(0), width = state.range(1);
  Context context;
  Tensor x = bench::Noise({1, tokens, width}), y = bench::Noise({1, tokens, width});
  const Tensor gate = bench::Noise({1, width});
  const ResidualRows rows{x, gate, y, {}, {}, {}};
  bench::RunTraffic(state, context, 12.0 * static_cast<double>(tokens * width), [&] {
    ResidualNorm(context, {&rows, 1}, {});
  });
}

void BM_RmsNormRotary(benchmark::State& state) {
  const int64_t tokens = state.range(0), width = state.range(1), dim = state.range(2);
  Context context;
  const Tensor projection = bench::Noise({1, tokens, 3, width / dim, dim});
  const Tensor weight = bench::Noise({dim}), angles = bench::Noise({tokens, dim});
  Tensor output({1, width / dim, tokens, dim}, DType::kF32);
  bench::RunTraffic(state, context, 8.0 * static_cast<double>(tokens * (width + dim)), [&] {
    RmsNormRotary(context, projection.view().Select(2, 0).Permute({0, 2, 1, 3}), weight, 1e-6f,
                  angles, angles, output);
  });
}

void BM_GroupNorm(benchmark::State& state) {
  const int64_t size = state.range(0), channels = state.range(1);
  Context context;
  const Tensor input = bench::Noise({1, size, size, channels}), weight = bench::Noise({channels});
  Tensor output({1, size, size, channels}, DType::kF32);
  // Read twice, written once.
  bench::RunTraffic(state, context, 12.0 * static_cast<double>(size * size * channels), [&] {
    GroupNorm(context, input, 8, weight, weight, 1e-6f, state.range(2) != 0, output);
  });
}

void Tokens(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"N", "d"})->Args({4132, 256})->Args({4352, 3072});
  bench->Unit(benchmark::kMicrosecond)->UseManualTime();
}
BENCHMARK(BM_LayerNormModulate)->Apply(Tokens);
BENCHMARK(BM_ResidualWithoutNorm)->Apply(Tokens);
BENCHMARK(BM_RmsNormRotary)
    ->ArgNames({"N", "d", "D"})
    ->Args({4132, 256, 64})
    ->Args({4352, 3072, 128})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();
BENCHMARK(BM_GroupNorm)
    ->ArgNames({"size", "C", "silu"})
    ->Args({512, 24, 0})
    ->Args({512, 24, 1})
    ->Args({256, 64, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseManualTime();

}  // namespace
}  // namespace tamias
