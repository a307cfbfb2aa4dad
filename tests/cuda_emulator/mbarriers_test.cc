// mbarriers, the copies that arrive at them, named barriers and setmaxnreg on the emulator, and
// that mistakes with each do not go unseen.
#include "tests/cuda_emulator/mbarriers.h"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "base/cuda/stream.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/primitives_sm90a.cuh"
#include "ops/cuda/shared_memory.cuh"
#include "tests/support/errors.h"

namespace tamias::cuda {
namespace {

using ::testing::HasSubstr;

LaunchShape OneBlock(unsigned threads, size_t shared_bytes = 0) {
  return {.name = "test_kernel", .grid = 1, .block = threads, .shared_bytes = shared_bytes};
}

template <typename... Parameters, typename... Arguments>
std::string ErrorOfLaunch(void (*kernel)(Parameters...), const LaunchShape& shape,
                          const Arguments&... arguments) {
  return ErrorOf([&] {
    Stream stream;
    Launch(kernel, shape, stream, arguments...);
  });
}

uint64_t* Barriers(int offset) { return reinterpret_cast<uint64_t*>(SharedMemory() + offset); }

// ---- a pipeline: warp 0 copies steps of 32 pieces of 16 bytes, warp 1 adds them up --------------
constexpr int kStages = 3;
constexpr int kStageBytes = 32 * 16;
constexpr size_t kPipelineBytes = kStages * kStageBytes + 2 * kStages * 8;

enum class Mistake { kNone, kNoFullWait, kNoEmptyWait, kTooFewArrivals, kTooManyArrivals };

template <Mistake kMistake>
__global__ void PipelineKernel(const float4* from, float* sums, int steps) {
  uint64_t* full = Barriers(kStages * kStageBytes);
  uint64_t* empty = full + kStages;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      MbarrierInit(full + stage, 32);
      MbarrierInit(empty + stage, kMistake == Mistake::kTooFewArrivals ? 2 : 1);
    }
    FenceMbarrierInit();
  }
  __syncthreads();
  const unsigned lane = threadIdx.x % 32;
  float sum = 0;
  for (int step = 0; step < steps; ++step) {
    const int stage = step % kStages;
    const unsigned parity = static_cast<unsigned>(step) / kStages % 2;
    auto* pieces = reinterpret_cast<float4*>(SharedMemory() + stage * kStageBytes);
    if (threadIdx.x < 32) {
      if (kMistake != Mistake::kNoEmptyWait) MbarrierWait(empty + stage, parity ^ 1);
      CpAsync16(pieces + lane, from + 32 * step + lane);
      MbarrierArriveCopies(full + stage);
    } else {
      if (kMistake != Mistake::kNoFullWait) MbarrierWait(full + stage, parity);
      sum += pieces[31 - lane].y;
      __syncwarp();
      if (lane == 0) MbarrierArrive(empty + stage);
      if (kMistake == Mistake::kTooManyArrivals && lane == 1) MbarrierArrive(empty + stage);
    }
  }
  if (threadIdx.x >= 32) sums[lane] = sum;
}

constexpr int kSteps = 20;

std::vector<float4> Steps() {
  std::vector<float4> from(32 * kSteps);
  for (size_t i = 0; i < from.size(); ++i) from[i] = {0, static_cast<float>(i), 0, 0};
  return from;
}

// The sums of lane 0; as they should be, 31 + 63 + ...
template <Mistake kMistake>
float RunPipeline() {
  const std::vector<float4> from = Steps();
  std::vector<float> sums(32);
  Stream stream;
  Launch(&PipelineKernel<kMistake>, OneBlock(64, kPipelineBytes), stream, from.data(), sums.data(),
         kSteps);
  return sums[0];
}

TEST(EmulatedMbarriers, CarryAPipeline) {
  for (const uint64_t seed : {1, 2, 3, 4, 5}) {
    cuda_emulator::SetSeed(seed);
    EXPECT_EQ(RunPipeline<Mistake::kNone>(), 32 * kSteps * (kSteps - 1) / 2 + 31 * kSteps);
  }
}

// Without the wait a consumer is behind or ahead of the phases that the producer waits for, or adds
// up what has not landed.
template <Mistake kMistake>
void ExpectAWrongResultOrAnError() {
  for (const uint64_t seed : {1, 2, 3, 4, 5}) {
    SCOPED_TRACE(seed);
    cuda_emulator::SetSeed(seed);
    float sum = 0;
    const std::string error = ErrorOf([&] { sum = RunPipeline<kMistake>(); });
    if (error.empty()) {
      EXPECT_NE(sum, 32 * kSteps * (kSteps - 1) / 2 + 31 * kSteps);
    } else {
      EXPECT_THAT(error, HasSubstr("waits for phase"));
    }
  }
}

TEST(EmulatedMbarriers, AMissingWaitIsAWrongResultOrAnError) {
  ExpectAWrongResultOrAnError<Mistake::kNoFullWait>();
  ExpectAWrongResultOrAnError<Mistake::kNoEmptyWait>();
}

TEST(EmulatedMbarriers, ArrivalsThatDoNotAddUpAreErrors) {
  EXPECT_THAT(ErrorOf([] { RunPipeline<Mistake::kTooFewArrivals>(); }),
              HasSubstr("32 threads of warp 0 at mbarrier 1560"));
  EXPECT_THAT(ErrorOf([] { RunPipeline<Mistake::kTooManyArrivals>(); }),
              HasSubstr("test_kernel: mbarrier.try_wait: mbarrier"));
}

__global__ void HalfAPhaseKernel() {
  uint64_t* barrier = Barriers(0);
  if (threadIdx.x == 0) {
    MbarrierInit(barrier, 40);
    FenceMbarrierInit();
  }
  __syncthreads();
  MbarrierArrive(barrier);
}

TEST(EmulatedMbarriers, AreNotLeftInTheMiddleOfAPhase) {
  EXPECT_EQ(ErrorOfLaunch(&HalfAPhaseKernel, OneBlock(64, 8)),
            "test_kernel: the block ended while phase 1 of mbarrier 0 had 24 of 40 arrivals and "
            "waited for 0 bytes");
}

template <bool kInit, bool kFence, bool kOverwrite>
__global__ void FreshKernel() {
  uint64_t* barrier = Barriers(16);
  if (threadIdx.x == 0) {
    if (kInit) MbarrierInit(barrier, 32);
    if (kFence) FenceMbarrierInit();
    if (kOverwrite) *barrier = 1;
  }
  __syncthreads();
  MbarrierArrive(barrier);
}

TEST(EmulatedMbarriers, AreInitialisedFencedAndLeftAlone) {
  const LaunchShape shape = OneBlock(32, 32);
  EXPECT_EQ(ErrorOfLaunch(&FreshKernel<true, true, false>, shape), "");
  EXPECT_EQ(ErrorOfLaunch(&FreshKernel<false, true, false>, shape),
            "test_kernel: mbarrier.arrive: mbarrier 16 was not initialised");
  EXPECT_EQ(ErrorOfLaunch(&FreshKernel<true, false, false>, shape),
            "test_kernel: mbarrier.arrive: mbarrier 16: no fence since its initialisation");
  EXPECT_EQ(ErrorOfLaunch(&FreshKernel<true, true, true>, shape),
            "test_kernel: mbarrier.arrive: mbarrier 16 was overwritten");
}

// Thread 1 looks when phase 2 is complete, and means phase 0.
__global__ void LateKernel() {
  uint64_t* barrier = Barriers(0);
  if (threadIdx.x == 0) {
    MbarrierInit(barrier, 1);
    FenceMbarrierInit();
    for (int phase = 0; phase < 3; ++phase) MbarrierArrive(barrier);
  }
  __syncthreads();
  if (threadIdx.x == 1) MbarrierWait(barrier, 0);
}

TEST(EmulatedMbarriers, AWaitForAPhaseTwicePastIsAnError) {
  EXPECT_EQ(
      ErrorOfLaunch(&LateKernel, OneBlock(32, 8)),
      "test_kernel: mbarrier.try_wait: mbarrier 0: thread 1 waits for phase 0, but phase 2 is "
      "complete, too");
}

// Reads a copy that a thread has waited for by group although the phase is not complete.
__global__ void GroupKernel(const float4* from, float* to) {
  uint64_t* barrier = Barriers(32 * 16);
  auto* pieces = reinterpret_cast<float4*>(SharedMemory());
  if (threadIdx.x == 0) {
    MbarrierInit(barrier, 32);
    FenceMbarrierInit();
  }
  __syncwarp();
  CpAsync16(pieces + threadIdx.x, from + threadIdx.x);
  if (threadIdx.x < 31) MbarrierArriveCopies(barrier);
  CpAsyncCommit();
  const float before = pieces[threadIdx.x].y;
  if (threadIdx.x % 2 == 0) CpAsyncWait<0>();
  const float after = pieces[threadIdx.x].y;
  to[threadIdx.x] = std::isnan(before) ? after : -1;
  __syncwarp();
  if (threadIdx.x == 31) MbarrierArriveCopies(barrier);
  MbarrierWait(barrier, 0);
  to[32 + threadIdx.x] = pieces[31 - threadIdx.x].y;
}

TEST(EmulatedMbarriers, CopiesLandWithThePhaseOrTheGroupWaitedFor) {
  const std::vector<float4> from = Steps();
  std::vector<float> to(64);
  Stream stream;
  Launch(&GroupKernel, OneBlock(32, 32 * 16 + 8), stream, from.data(), to.data());
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(to[i] == static_cast<float>(i), i % 2 == 0);
    EXPECT_EQ(std::isnan(to[i]), i % 2 == 1);
    EXPECT_EQ(to[32 + i], static_cast<float>(31 - i));
  }
}

// ---- bulk copies --------------------------------------------------------------------------------
__global__ void BulkKernel(const float* from, float* to, unsigned expected, unsigned copied) {
  uint64_t* barrier = Barriers(1024);
  auto* numbers = reinterpret_cast<float*>(SharedMemory());
  if (threadIdx.x == 0) {
    MbarrierInit(barrier, 1);
    FenceMbarrierInit();
    CopyBulk(numbers, from, copied / 2, barrier);
    CopyBulk(numbers + copied / 8, from + copied / 8, copied / 2, barrier);
    to[0] = numbers[0];
    MbarrierArriveExpect(barrier, expected);
  }
  __syncthreads();
  MbarrierWait(barrier, 0);
  if (threadIdx.x > 0) to[threadIdx.x] = numbers[threadIdx.x];
}

TEST(EmulatedMbarriers, BulkCopiesCompleteAPhaseByTheirBytes) {
  std::vector<float> from(256), to(256);
  std::iota(from.begin(), from.end(), 0.0f);
  Stream stream;
  const LaunchShape shape = OneBlock(256, 1032);
  Launch(&BulkKernel, shape, stream, from.data(), to.data(), 1024u, 1024u);
  EXPECT_TRUE(std::isnan(to[0]));  // before the phase was complete
  EXPECT_TRUE(std::equal(from.begin() + 1, from.end(), to.begin() + 1));
  EXPECT_THAT(ErrorOfLaunch(&BulkKernel, shape, from.data(), to.data(), 1024u, 512u),
              HasSubstr("test_kernel: deadlock in block (0, 0, 0)"));
  EXPECT_THAT(ErrorOfLaunch(&BulkKernel, shape, from.data(), to.data(), 8u, 8u),
              HasSubstr("cp.async.bulk: expected a multiple of 16 bytes, found 4"));
}

// ---- named barriers -----------------------------------------------------------------------------
// Warps 0 and 1 take turns writing to one place; warp 2 has no part in it.
template <bool kTakeTurns>
__global__ void TurnsKernel(int* order) {
  __shared__ int place;
  const unsigned warp = threadIdx.x / 32;
  if (threadIdx.x == 0) place = 0;
  __syncthreads();
  if (warp == 2) return;
  if (kTakeTurns && warp == 1) NamedBarrierArrive(1, 64);
  for (int turn = 0; turn < 10; ++turn) {
    if (kTakeTurns) NamedBarrierSync(1 + warp, 64);
    if (threadIdx.x % 32 == 0) order[place++] = static_cast<int>(warp);
    if (kTakeTurns) NamedBarrierArrive(2 - warp, 64);
    __syncwarp();
  }
}

TEST(EmulatedNamedBarriers, MakeWarpsTakeTurns) {
  std::vector<int> order(20), expected(20);
  for (size_t i = 0; i < 20; ++i) expected[i] = static_cast<int>(i % 2);
  Stream stream;
  for (const uint64_t seed : {1, 2, 3}) {
    cuda_emulator::SetSeed(seed);
    Launch(&TurnsKernel<true>, OneBlock(96), stream, order.data());
    EXPECT_EQ(order, expected);
  }
  Launch(&TurnsKernel<false>, OneBlock(96), stream, order.data());
  EXPECT_NE(order, expected);
}

__global__ void NamedBarrierKernel(unsigned id, unsigned threads, unsigned last) {
  NamedBarrierSync(id, threadIdx.x / 32 == 1 ? last : threads);
}

TEST(EmulatedNamedBarriers, RefuseOtherNumbersAndNameThoseWhoWait) {
  const auto error_of = [](unsigned id, unsigned threads, unsigned last) {
    return ErrorOfLaunch(&NamedBarrierKernel, OneBlock(64), id, threads, last);
  };
  EXPECT_EQ(error_of(15, 64, 64), "");
  EXPECT_EQ(error_of(0, 64, 64),
            "test_kernel: bar.sync: barrier 0 of 64 threads: expected 1 to 15 and whole warps");
  EXPECT_THAT(error_of(16, 64, 64), HasSubstr("bar.sync: barrier 16"));
  EXPECT_THAT(error_of(1, 40, 40), HasSubstr("bar.sync: barrier 1 of 40 threads"));
  EXPECT_THAT(error_of(1, 64, 96), HasSubstr("others came to one of"));
  EXPECT_THAT(error_of(3, 96, 96), HasSubstr("32 threads of warp 1 at bar.sync 3"));
}

// ---- registers ----------------------------------------------------------------------------------
template <int kLess, int kMore>
__global__ void RegistersKernel() {
  if (threadIdx.x < 128) {
    RegistersDown<kLess>();
  } else {
    RegistersUp<kMore>();
  }
}

// 512 threads have 128 registers each at first.
TEST(EmulatedRegisters, AreHandedFromOneWarpgroupToTheOthers) {
  EXPECT_EQ(ErrorOfLaunch(&RegistersKernel<32, 160>, OneBlock(512)), "");
  EXPECT_THAT(ErrorOfLaunch(&RegistersKernel<32, 168>, OneBlock(512)),
              HasSubstr("at setmaxnreg.inc 168"));
  EXPECT_EQ(ErrorOfLaunch(&RegistersKernel<40, 232>, OneBlock(384)), "");
  EXPECT_THAT(ErrorOfLaunch(&RegistersKernel<32, 120>, OneBlock(512)),
              HasSubstr("setmaxnreg.inc: 120 registers, warp"));
  EXPECT_THAT(ErrorOfLaunch(&RegistersKernel<20, 160>, OneBlock(512)),
              HasSubstr("setmaxnreg.dec: expected 24 to 256 registers in steps of 8, found 20"));
}

__global__ void OneWarpsRegistersKernel() {
  if (threadIdx.x < 32) RegistersDown<32>();
}

TEST(EmulatedRegisters, AreThoseOfAWholeWarpgroup) {
  EXPECT_THAT(ErrorOfLaunch(&OneWarpsRegistersKernel, OneBlock(128)),
              HasSubstr("warp 1 did not start the products and set the registers"));
}

}  // namespace
}  // namespace tamias::cuda
