// Dense layers at the shapes of the demo model (d 256, 4,132 tokens) and of FLUX.1 (d 3072), with
// f32 and with bf16 weights: GFLOP/s (2 M K N flops) and the share of this machine's FMA peak. With
// activations in bf16, too, how much faster that is than f32, measured in turn (speedup_over_f32).
#include "ops/linear.h"

#include <array>

#include "rates.h"

namespace tamias {
namespace {

void BM_Linear(benchmark::State& state) {
  const int64_t rows = state.range(0), inputs = state.range(1), outputs = state.range(2);
  const bool half = state.range(3) == 16;
  Context context;
  const Tensor input = bench::Noise({rows, inputs}), bias = bench::Noise({outputs});
  const Tensor weight =
      half ? bench::NoiseBFloat16({outputs, inputs}) : bench::Noise({outputs, inputs});
  Tensor output({rows, outputs}, DType::kF32);
  const LinearOptions options = {.activation = state.range(4) != 0 ? Activation::kGeluTanh
                                                                   : Activation::kNone};
  bench::RunArithmetic(state, context, 2.0 * static_cast<double>(rows * inputs * outputs),
                       [&] { Linear(context, input, weight, bias, output, options); });
}

void BM_LinearBFloat16(benchmark::State& state) {
  const int64_t rows = state.range(0), inputs = state.range(1), outputs = state.range(2);
  Context context(Placement{.device = {}, .activation_dtype = DType::kBF16}), wide;
  const Tensor bias = bench::Noise({outputs});
  const Tensor input = bench::NoiseBFloat16({rows, inputs}), floats = bench::Noise({rows, inputs});
  const Tensor weight = bench::NoiseBFloat16({outputs, inputs});
  const Tensor wide_weight = bench::Noise({outputs, inputs});
  Tensor output({rows, outputs}, DType::kBF16), wide_output({rows, outputs}, DType::kF32);
  const LinearOptions options = {.activation = state.range(3) != 0 ? Activation::kGeluTanh
                                                                   : Activation::kNone};
  bench::RunBesideF32(
      state, context, 2.0 * static_cast<double>(rows * inputs * outputs),
      [&] { Linear(context, input, weight, bias, output, options); },
      [&] { Linear(wide, floats, wide_weight, bias, wide_output, options); });
}

constexpr std::array<std::array<int64_t, 4>, 10> kShapes = {{{4132, 256, 256, 0},
                                                             {4132, 256, 1024, 1},
                                                             {4132, 1024, 256, 0},
                                                             {4132, 1280, 256, 0},
                                                             {36, 256, 256, 0},
                                                             {1, 256, 1536, 0},
                                                             {4096, 768, 3072, 1},
                                                             {4096, 3072, 768, 0},
                                                             {4352, 3072, 3072, 0},
                                                             {1, 3072, 18432, 0}}};

void ShapesInBFloat16(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"M", "K", "N", "gelu"})->Unit(benchmark::kMillisecond)->UseManualTime();
  for (const auto& [rows, inputs, outputs, gelu] : kShapes) {
    bench->Args({rows, inputs, outputs, gelu});
  }
}
BENCHMARK(BM_LinearBFloat16)->Apply(ShapesInBFloat16);

void Shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"M", "K", "N", "bits", "gelu"})->Unit(benchmark::kMillisecond)->UseManualTime();
  for (const int64_t bits : {32, 16}) {
    for (const auto& [rows, inputs, outputs, gelu] : kShapes) {
      bench->Args({rows, inputs, outputs, bits, gelu});
    }
  }
}
BENCHMARK(BM_Linear)->Apply(Shapes);

}  // namespace
}  // namespace tamias
