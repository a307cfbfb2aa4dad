// Convolutions of films at the shapes of a tile of HunyuanVideo's autoencoder (256 x 256 pixels,
// four frames), 3 x 3 x 3, causal and padded by repetition, group norm's scaling and SiLU applied
// on reading: GFLOP/s and the share of this machine's FMA peak. UpsampleConv3d: flops as done, and
// the speed-up over convolving the enlarged film.
#include "ops/conv3d.h"

#include "ops/upsample_conv3d.h"
#include "rates.h"

namespace tamias {
namespace {

void BM_Conv3d(benchmark::State& state) {
  constexpr int64_t kFrames = 4;
  const int64_t size = state.range(0), inputs = state.range(1), outputs = state.range(2);
  Context context;
  const Tensor input = bench::Noise({1, kFrames, size, size, inputs});
  const Tensor weight = bench::Noise({outputs, inputs, 3, 3, 3}), bias = bench::Noise({outputs});
  const Tensor gain = bench::Noise({1, 1, inputs}), offset = bench::Noise({1, 1, inputs});
  Tensor output({1, kFrames, size, size, outputs}, DType::kF32);
  bench::RunArithmetic(state, context,
                       54.0 * static_cast<double>(kFrames * size * size * inputs * outputs), [&] {
                         Conv3d(context, input, weight, bias,
                                {.padding = {2, 0, 1, 1, 1, 1, PaddingMode::kReplicate},
                                 .input_gain = gain,
                                 .input_offset = offset,
                                 .input_silu = true},
                                output);
                       });
}

void BM_UpsampleConv3d(benchmark::State& state) {
  constexpr int64_t kFrames = 3;
  const int64_t size = state.range(0), channels = state.range(1);
  const UpsampleConv3dOptions options = {true, PaddingMode::kReplicate};
  const int64_t frames = UpsampledFrames(kFrames, options.doubles_frames);
  Context context;
  const Tensor input = bench::Noise({1, kFrames, size, size, channels});
  const Tensor weight = bench::Noise({channels, channels, 3, 3, 3}),
               bias = bench::Noise({channels});
  const Tensor enlarged = Tensor::Zeros({1, frames, 2 * size, 2 * size, channels}, DType::kF32);
  Tensor output(enlarged.shape(), DType::kF32);
  // The first frame meets one input frame, the others two, each with four 2 x 2 kernels.
  const double seconds = bench::RunArithmetic(
      state, context,
      32.0 * static_cast<double>((2 * frames - 1) * size * size * channels * channels),
      [&] { UpsampleConv3d(context, input, weight, bias, options, output); });
  const auto peer = [&] {  // without the time to enlarge
    Conv3d(context, enlarged, weight, bias,
           {.padding = {2, 0, 1, 1, 1, 1, PaddingMode::kReplicate}}, output);
  };
  peer();
  state.counters["over_enlarged"] = bench::Seconds(peer) / seconds;
}

BENCHMARK(BM_UpsampleConv3d)
    ->ArgNames({"size", "C"})
    ->Args({32, 512})
    ->Args({128, 256})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();
BENCHMARK(BM_Conv3d)
    ->ArgNames({"size", "C", "O"})
    ->Args({32, 512, 512})
    ->Args({64, 512, 512})
    ->Args({128, 256, 256})
    ->Args({256, 128, 128})
    ->Args({256, 128, 3})
    ->Unit(benchmark::kMillisecond)
    ->UseManualTime();

}  // namespace
}  // namespace tamias
