// What the attention kernels do beside the right result, seen by the emulator.
#include <gtest/gtest.h>

#include "ops/attention.h"
#include "ops/cuda/attention_kernel.cuh"
#include "tamias/error.h"
#include "tests/cuda_emulator/device.h"
#include "tests/support/device_attention.h"

namespace tamias {
namespace {

TEST(AttentionKernel, ReadsSharedMemoryWithoutConflictsAndMultipliesNoMoreThanItMust) {
  for (const int64_t head_dim : {64, 128}) {
    Random random(1);
    cuda::Stream stream;
    AttentionCase attention(stream, random, {.queries = 60, .keys = 100, .head_dim = head_dim});
    cuda::DenseAttention(stream, attention.device(), attention.output.device());
    const cuda_emulator::Statistics launch = cuda_emulator::LastLaunch();
    EXPECT_EQ(launch.matrix_load_conflicts, 0);
    // 4 warps, 2 steps of 64 keys, 16 x 8 x 16 numbers a product; keys and values.
    EXPECT_EQ(launch.products, 4 * 2 * (8 * head_dim / 16 + head_dim / 8 * 4));
    EXPECT_EQ(launch.matrix_loads, launch.products / 2);
    EXPECT_EQ(launch.async_copies, 2 * 128 * head_dim / 8);  // each row once
  }
}

// 60 rows see 41 to 100 keys: the 16 of the first warp none of the second step of 64.
TEST(AttentionKernel, CausalWarpsSkipStepsOfWhichTheySeeNothing) {
  for (const int64_t head_dim : {64, 128}) {
    Random random(1);
    cuda::Stream stream;
    AttentionCase attention(stream, random,
                            {.queries = 60, .keys = 100, .head_dim = head_dim, .causal = true});
    cuda::DenseAttention(stream, attention.device(), attention.output.device());
    EXPECT_EQ(cuda_emulator::LastLaunch().products,
              (4 + 3) * (8 * head_dim / 16 + head_dim / 8 * 4));
  }
}

// Tiles of 64 rows: the first loads one step of 64 keys, the second two.
TEST(AttentionKernel, CausalTilesLoadOnlyKeysThatTheySee) {
  Random random(1);
  cuda::Stream stream;
  AttentionCase attention(stream, random,
                          {.queries = 128, .keys = 128, .head_dim = 64, .causal = true});
  cuda::DenseAttention(stream, attention.device(), attention.output.device());
  EXPECT_EQ(cuda_emulator::LastLaunch().async_copies, (1 + 2) * 2 * 64 * 64 / 8);
}

void ExpectTheSameInAnyOrderOfThreads(bool causal) {
  SCOPED_TRACE(causal ? "causal" : "bidirectional");
  Random random(2);
  cuda::Stream stream;
  AttentionCase attention(stream, random,
                          {.queries = 70, .keys = 150, .head_dim = 128, .causal = causal});
  Tensor first;
  for (const uint64_t seed : {11, 12, 13, 14}) {
    cuda_emulator::SetSeed(seed);
    Tensor sums = cuda::DeviceTensor({1, 1, 1, 150}, DType::kF32, 0);
    const Tensor previous = ToDevice(stream, Tensor::Zeros({1, 1, 70}, DType::kF32));
    cuda::DenseAttentionColumnSums(stream, attention.device(), previous, 192,
                                   attention.output.device(), {}, sums);
    if (first.empty()) first = ToHost(stream, sums);
    EXPECT_EQ(LargestError(ToHost(stream, sums), first), 0);
  }
}

// Any order of the threads gives the same bytes.
TEST(AttentionKernel, DoesNotDependOnTheOrderOfThreads) {
  ExpectTheSameInAnyOrderOfThreads(false);
  ExpectTheSameInAnyOrderOfThreads(true);
}

// Exactly 48 KiB of dynamic shared memory, and static beside it: a GPU refuses the launch unless
// the kernel has asked, which no limit on the dynamic part alone makes it do.
TEST(AttentionKernel, AsksForItsStaticSharedMemoryToo) {
  constexpr size_t kUnasked = cuda_emulator::kSharedBytesUnasked;
  using Traits = cuda::AttentionTraits<BFloat16, 64, 4>;
  constexpr auto kNone = cuda::AttentionByProduct::kNone;
  const auto kernel =
      &cuda::AttentionKernel<Traits, cuda::AttentionKeys::kAll, kNone, cuda::AttentionMask::kNone>;
  const size_t dynamic = cuda::SharedBytes<Traits, kNone>();
  ASSERT_EQ(dynamic, kUnasked);
  const auto* function = reinterpret_cast<const void*>(kernel);
  const cuda_emulator::Kernel launch = {.name = "dense attention",
                                        .function = function,
                                        .block = Traits::kThreads,
                                        .shared_bytes = dynamic};
  const size_t fixed = cuda_emulator::StaticSharedBytes(launch);
  EXPECT_GE(fixed, sizeof(cuda::BlockWork<BFloat16>));
  const auto unasked = static_cast<int>(kUnasked - fixed);  // as before the first launch
  ASSERT_EQ(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, unasked),
            cudaSuccess);
  EXPECT_THROW(cuda_emulator::Run(launch, [] {}), Error);
  Random random(3);
  cuda::Stream stream;
  AttentionCase attention(stream, random, {.queries = 60, .keys = 100, .head_dim = 64});
  cuda::DenseAttention(stream, attention.device(), attention.output.device());
  EXPECT_EQ(cuda_emulator::MostDynamicSharedBytes(function), dynamic);
  EXPECT_NO_THROW(cuda_emulator::Run(launch, [] {}));
}

}  // namespace
}  // namespace tamias
