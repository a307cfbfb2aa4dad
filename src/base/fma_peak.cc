// Measures the peak rate of fused multiply-adds: twelve independent chains per thread (a latency of
// four or five cycles on two ports needs at most ten), no memory traffic.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "base/fma_peak.cc"
#include <hwy/foreach_target.h>
// clang-format off
#include <hwy/highway.h>
// clang-format on

#include "tamias/fma_peak.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/check.h"
#include "base/parallel.h"
#include "tamias/context.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Runs `rounds` rounds of twelve vector multiply-adds; returns a value that depends on all.
float RunFma(int64_t rounds) {
  constexpr int kChains = 12;
  const hn::ScalableTag<float> d;
  using Vector = hn::Vec<decltype(d)>;
  Vector sum[kChains];
  for (int i = 0; i < kChains; ++i) sum[i] = hn::Set(d, static_cast<float>(i));
  const Vector factor = hn::Set(d, 0.999f);
  const Vector term = hn::Set(d, 0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) sum[i] = hn::MulAdd(sum[i], factor, term);
  }
  Vector total = hn::Zero(d);
  for (int i = 0; i < kChains; ++i) total = hn::Add(total, sum[i]);
  return hn::GetLane(hn::SumOfLanes(d, total));
}

double FlopsPerRound() {
  return 2.0 * 12.0 * static_cast<double>(hn::Lanes(hn::ScalableTag<float>()));
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(RunFma);
HWY_EXPORT(FlopsPerRound);
HWY_EXPORT(TargetName);

double FmaPeakGflops(int threads) {
  const Context context(threads);
  const auto run = HWY_DYNAMIC_DISPATCH(RunFma);
  const double flops_per_round = HWY_DYNAMIC_DISPATCH(FlopsPerRound)();
  constexpr int64_t kRounds = 1'500'000;  // 2 to 4 ms
  std::vector<float> sink(static_cast<size_t>(context.threads()));
  std::vector<double> rates(51);
  for (double& rate : rates) {
    const auto start = std::chrono::steady_clock::now();
    ParallelForDynamic(context, context.threads(),
                       [&](int64_t i, int) { sink[static_cast<size_t>(i)] = run(kRounds); });
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    rate = flops_per_round * kRounds * context.threads() / seconds.count();
  }
  std::nth_element(rates.begin(), rates.begin() + 25, rates.end());
  TAMIAS_CHECK(*std::min_element(sink.begin(), sink.end()) > 0);  // keeps the loops alive
  return rates[25] * 1e-9;
}

const char* SimdTargetName() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }

}  // namespace tamias
#endif  // HWY_ONCE
