// Rates of a benchmark next to what the machine can do, measured in the same run.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/parallel.h"
#include "bench_timing.h"
#include "in_type.h"
#include "tamias/context.h"
#include "tamias/fma_peak.h"
#include "tamias/tensor.h"

namespace tamias::bench {

// Times body() per iteration, after beside(); reports GFLOP/s and the share of the FMA peak.
template <typename Body, typename Beside>
double RunArithmetic(benchmark::State& state, const Context& context, double flops,
                     const Body& body, const Beside& beside) {
  const double peak = FmaPeakGflops(context.threads());
  beside();
  body();
  std::vector<double> seconds;
  for (auto _ : state) {
    beside();
    seconds.push_back(Seconds(body));
    state.SetIterationTime(seconds.back());
  }
  const double median = Median(seconds);
  state.counters["gflops"] = flops / median * 1e-9;
  state.counters["peak_fraction"] = flops / median * 1e-9 / peak;
  return median;
}

template <typename Body>
double RunArithmetic(benchmark::State& state, const Context& context, double flops,
                     const Body& body) {
  return RunArithmetic(state, context, flops, body, [] {});
}

// Times body() per iteration, and wide() beside it in turn, the same with operands in f32; reports
// GFLOP/s, the share of the FMA peak, and how much faster body is.
template <typename Body, typename Wide>
void RunBesideF32(benchmark::State& state, const Context& context, double flops, const Body& body,
                  const Wide& wide) {
  std::vector<double> wide_seconds;
  const double seconds =
      RunArithmetic(state, context, flops, body, [&] { wide_seconds.push_back(Seconds(wide)); });
  state.counters["speedup_over_f32"] = Median(wide_seconds) / seconds;
}

// Times body() per iteration; reports the bytes it must move per second and their share of what
// copying an equal number of bytes with memcpy on all threads reaches.
template <typename Body>
void RunTraffic(benchmark::State& state, const Context& context, double bytes, const Body& body) {
  const auto half = static_cast<int64_t>(bytes / 2);
  Tensor source = Tensor::Zeros({half}, DType::kU8), target = Tensor::Zeros({half}, DType::kU8);
  body();
  std::vector<double> seconds, copy_seconds;
  for (auto _ : state) {
    copy_seconds.push_back(Seconds([&] {
      ParallelForRanges(context, half, 4096, [&](int64_t begin, int64_t end, int) {
        std::memcpy(target.data<uint8_t>() + begin, source.data<uint8_t>() + begin,
                    static_cast<size_t>(end - begin));
      });
    }));
    seconds.push_back(Seconds(body));
    state.SetIterationTime(seconds.back());
  }
  state.counters["gigabytes_per_second"] = bytes / Median(seconds) * 1e-9;
  state.counters["copy_fraction"] = Median(copy_seconds) / Median(seconds);
}

inline Tensor Noise(Shape shape) {
  Tensor tensor(shape, DType::kF32);
  uint32_t state = 1;
  for (int64_t i = 0; i < tensor.NumElements(); ++i) {
    state = state * 1664525u + 1013904223u;
    tensor.data<float>()[i] = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  return tensor;
}

inline Tensor NoiseBFloat16(Shape shape) { return InType(Noise(shape), DType::kBF16); }

}  // namespace tamias::bench
