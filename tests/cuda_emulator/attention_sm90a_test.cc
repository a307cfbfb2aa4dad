// What the attention kernel for compute capability 9.0a does beside the right result, seen by the
// emulator.
#include <gtest/gtest.h>

#include "ops/attention.h"
#include "tests/cuda_emulator/device.h"
#include "tests/support/device_attention.h"
#include "tests/support/kernel_families.h"

namespace tamias {
namespace {

class AttentionOfWarpgroups : public KernelFamilyTest {};
INSTANTIATE_TEST_SUITE_P(Kernels, AttentionOfWarpgroups,
                         testing::Values(cuda::KernelFamily::kSm90a), NameOfFamily);

cuda_emulator::Statistics LaunchOf(const AttentionProblem& problem) {
  Random random(1);
  cuda::Stream stream;
  AttentionCase attention(stream, random, problem);
  cuda::DenseAttention(stream, attention.device(), attention.output.device());
  return cuda_emulator::LastLaunch();
}

TEST_P(AttentionOfWarpgroups, MultipliesAndLoadsNoMoreThanItMust) {
  for (const int64_t head_dim : {64, 128}) {
    const auto launch = LaunchOf({.queries = 100, .keys = 100, .head_dim = head_dim});
    // 8 warps, 2 steps of 64 keys, 16 of the contraction a product: of head dimensions, and keys.
    EXPECT_EQ(launch.warpgroup_products, 8 * 2 * (head_dim / 16 + 64 / 16));
    EXPECT_EQ(launch.products, 0);
    EXPECT_EQ(launch.async_copies, (128 + 2 * 128) * head_dim / 8);  // each row once
  }
}

// 130 rows are two tiles of 128, of which the second has two rows.
TEST_P(AttentionOfWarpgroups, WarpgroupsWithoutRowsMultiplyNothing) {
  const auto launch = LaunchOf({.queries = 130, .keys = 64, .head_dim = 64});
  EXPECT_EQ(launch.warpgroup_products, (8 + 4) * (64 / 16 + 64 / 16));
}

// Four multiprocessors: eight tiles of 192 rows are two rounds, twelve of 128 rows three; four
// tiles of 192 are one round, eight of 128 two.
TEST_P(AttentionOfWarpgroups, TakesTheTilesThatFewerRoundsGetThrough) {
  constexpr int64_t kProducts = 64 / 16 + 64 / 16;  // of a warp
  const auto products = [](int64_t heads, int64_t queries) {
    return LaunchOf({.heads = heads, .queries = queries, .keys = 64, .head_dim = 64})
        .warpgroup_products;
  };
  EXPECT_EQ(products(4, 192), 4 * 12 * kProducts);
  EXPECT_EQ(products(4, 384), 8 * 12 * kProducts);
  EXPECT_EQ(products(4, 256), 8 * 8 * kProducts);
}

TEST_P(AttentionOfWarpgroups, LeavesFewRowsAndCausalCallsToTheOtherKernel) {
  EXPECT_EQ(LaunchOf({.queries = 64, .keys = 64}).warpgroup_products, 0);
  EXPECT_EQ(LaunchOf({.queries = 100, .keys = 100, .causal = true}).warpgroup_products, 0);
}

// Any order of the threads, and any time of the products, gives the same bytes.
TEST_P(AttentionOfWarpgroups, DoesNotDependOnTheOrderOfThreads) {
  Random random(2);
  cuda::Stream stream;
  AttentionCase attention(stream, random,
                          {.heads = 3, .queries = 300, .keys = 400, .head_dim = 128});
  const Tensor previous = ToDevice(stream, Tensor::Zeros({1, 3, 300}, DType::kF32));
  Tensor first, first_sums;
  for (const uint64_t seed : {11, 12, 13, 14, 15, 16}) {
    cuda_emulator::SetSeed(seed);
    Tensor sums = cuda::DeviceTensor({1, 3, 2, 400}, DType::kF32, 0);
    cuda::DenseAttentionColumnSums(stream, attention.device(), previous, 192,
                                   attention.output.device(), {}, sums);
    const Tensor output = attention.output.Read(stream);
    if (first.empty()) {
      first = Tensor::CopyOf(output);
      first_sums = ToHost(stream, sums);
    }
    EXPECT_EQ(LargestError(output, first), 0);
    EXPECT_EQ(LargestError(ToHost(stream, sums), first_sums), 0);
  }
}

}  // namespace
}  // namespace tamias
