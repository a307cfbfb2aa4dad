// Convolutions at the shapes of the demo model's autoencoder at 512 x 512 and of FLUX.1's: GFLOP/s
// and the share of this machine's FMA peak. Conv2d: 3 x 3 with group norm's scaling and SiLU
// applied on reading. UpsampleConv2d: flops as done (4 of 2 x 2), and the speed-up over enlarging
// first. In bf16: the speed-up over f32, in turn.
#include "ops/conv2d.h"

#include "ops/upsample_conv2d.h"
#include "rates.h"

namespace tamias {
namespace {

void BM_Conv2d(benchmark::State& state) {
  const int64_t size = state.range(0), inputs = state.range(1), outputs = state.range(2);
  Context context;
  const Tensor input = bench::Noise({1, size, size, inputs});
  const Tensor weight = bench::Noise({outputs, inputs, 3, 3}), bias = bench::Noise({outputs});
  const Tensor gain = bench::Noise({1, inputs}), offset = bench::Noise({1, inputs});
  Conv2dOptions options = {.padding = {1, 1, 1, 1}};
  if (state.range(3) != 0) {
    options.input_gain = gain.view();
    options.input_offset = offset.view();
    options.input_silu = true;
  }
  Tensor output({1, size, size, outputs}, DType::kF32);
  bench::RunArithmetic(state, context, 18.0 * static_cast<double>(size * size * inputs * outputs),
                       [&] { Conv2d(context, input, weight, bias, options, output); });
}

void BM_Conv2dBFloat16(benchmark::State& state) {
  const int64_t size = state.range(0), inputs = state.range(1), outputs = state.range(2);
  Context context(Placement{.device = {}, .activation_dtype = DType::kBF16}), wide;
  const Shape shape = {1, size, size, inputs};
  const Tensor floats = bench::Noise(shape), input = bench::NoiseBFloat16(shape);
  const Tensor wide_weight = bench::Noise({outputs, inputs, 3, 3}), bias = bench::Noise({outputs});
  const Tensor weight = bench::InType(wide_weight, DType::kBF16);
  const Tensor gain = bench::Noise({1, inputs}), offset = bench::Noise({1, inputs});
  const Conv2dOptions options = {.padding = {1, 1, 1, 1},
                                 .input_gain = gain.view(),
                                 .input_offset = offset.view(),
                                 .input_silu = true};
  Tensor output({1, size, size, outputs}, DType::kBF16), wide_output(output.shape(), DType::kF32);
  bench::RunBesideF32(
      state, context, 18.0 * static_cast<double>(size * size * inputs * outputs),
      [&] { Conv2d(context, input, weight, bias, options, output); },
      [&] { Conv2d(wide, floats, wide_weight, bias, options, wide_output); });
}

void BM_UpsampleConv2d(benchmark::State& state) {
  const int64_t size = state.range(0), channels = state.range(1);
  Context context;
  const Tensor input = bench::Noise({1, size, size, channels});
  const Tensor weight = bench::Noise({channels, channels, 3, 3}), bias = bench::Noise({channels});
  const Tensor enlarged = Tensor::Zeros({1, 2 * size, 2 * size, channels}, DType::kF32);
  Tensor output({1, 2 * size, 2 * size, channels}, DType::kF32);
  const double seconds = bench::RunArithmetic(
      state, context, 32.0 * static_cast<double>(size * size * channels * channels),
      [&] { UpsampleConv2d(context, input, weight, bias, output); });
  const auto peer = [&] {  // without the time to enlarge
    Conv2d(context, enlarged, weight, bias, {.padding = {1, 1, 1, 1}}, output);
  };
  peer();
  state.counters["over_enlarged"] = bench::Seconds(peer) / seconds;
}

BENCHMARK(BM_Conv2d)
    ->ArgNames({"size", "C", "O", "norm"})
    ->ArgsProduct({{128}, {64}, {64}, {0, 1}})
    ->ArgsProduct({{256}, {64, 48}, {48}, {0, 1}})
    ->ArgsProduct({{512}, {48, 24}, {24}, {0, 1}})
    ->Args({512, 24, 3, 1})
    ->Args({128, 512, 512, 1})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();
BENCHMARK(BM_Conv2dBFloat16)
    ->ArgNames({"size", "C", "O"})
    ->Args({128, 64, 64})
    ->Args({256, 48, 48})
    ->Args({512, 24, 24})
    ->Args({128, 512, 512})
    ->Args({256, 256, 256})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();
BENCHMARK(BM_UpsampleConv2d)
    ->ArgNames({"size", "C"})
    ->Args({128, 64})
    ->Args({256, 48})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace
}  // namespace tamias
