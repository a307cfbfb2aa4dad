// Clusters of two blocks on the emulator: barriers, arrivals and copies that reach both, and that
// mistakes do not go unseen.
#include "tests/cuda_emulator/clusters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/cuda/stream.h"
#include "ops/cuda/clusters_sm90a.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/shared_memory.cuh"
#include "tests/cuda_emulator/device.h"
#include "tests/support/errors.h"

namespace tamias::cuda {
namespace {

using ::testing::HasSubstr;

class EmulatedClusters : public ::testing::Test {
 protected:
  void SetUp() override { cuda_emulator::SetComputeCapability(90); }
  void TearDown() override { cuda_emulator::SetComputeCapability(before_); }

 private:
  int before_ = cuda_emulator::ComputeCapability();
};

constexpr int kBoxRows = 16;
constexpr int kBoxBytes = kBoxRows * 128;
constexpr size_t kSharedBytes = 2 * kBoxBytes + 2 * sizeof(uint64_t);

LaunchShape Clusters(unsigned blocks, unsigned threads = 128) {
  return {.name = "test_kernel",
          .grid = blocks,
          .block = threads,
          .shared_bytes = kSharedBytes,
          .cluster = 2};
}

enum class Mistake { kNone, kNoWait, kTooFewBytes, kNoArrivalOfTheOther, kNoSyncAtTheEnd };

// Each block brings one box to both, waits for the two, and writes them; then it tells both that it
// has read.
template <Mistake kMistake>
__global__ void ExchangeKernel(const __grid_constant__ TensorMap map, uint16_t* to) {
  auto* landed = reinterpret_cast<uint64_t*>(SharedMemory() + 2 * kBoxBytes);
  uint64_t* read = landed + 1;
  if (threadIdx.x == 0) {
    MbarrierInit(landed, 1);
    MbarrierInit(read, 2);
    FenceMbarrierInit();
  }
  ClusterSync();
  const unsigned rank = ClusterRank();
  if (threadIdx.x == 0) {
    MbarrierArriveExpect(landed, kMistake == Mistake::kTooFewBytes ? kBoxBytes : 2 * kBoxBytes);
    CopyBoxToCluster(SharedMemory() + rank * kBoxBytes, map, landed, 0,
                     static_cast<int>(rank) * kBoxRows, static_cast<int>(blockIdx.x / 2));
  }
  if (kMistake != Mistake::kNoWait) MbarrierWait(landed, 0);
  const auto* words = reinterpret_cast<const uint16_t*>(SharedMemory());
  for (unsigned i = threadIdx.x; i < kBoxBytes; i += blockDim.x) {
    to[blockIdx.x * kBoxBytes + i] = words[i];
  }
  __syncthreads();
  if (threadIdx.x < (kMistake == Mistake::kNoArrivalOfTheOther ? 1 : 2)) {
    MbarrierArriveAt(read, threadIdx.x);
  }
  if (kMistake == Mistake::kNoSyncAtTheEnd) return;
  MbarrierWait(read, 0);
  ClusterSync();
}

struct Exchange {
  static constexpr int kColumns = 40, kRows = 27, kBatch = 3;
  std::vector<uint16_t> from = std::vector<uint16_t>(kColumns * kRows * kBatch);
  std::vector<uint16_t> to = std::vector<uint16_t>(2 * kBatch * kBoxBytes);

  Exchange() { std::iota(from.begin(), from.end(), uint16_t{1}); }

  template <Mistake kMistake>
  std::string Run() {
    return ErrorOf([&] {
      Stream stream;
      const TensorMap map = MapTensor("test", {.data = from.data(),
                                               .columns = kColumns,
                                               .rows = kRows,
                                               .batch = kBatch,
                                               .row_stride = kColumns,
                                               .batch_stride = kColumns * kRows,
                                               .box_rows = kBoxRows});
      Launch(&ExchangeKernel<kMistake>, Clusters(2 * kBatch), stream, map, to.data());
    });
  }
};

TEST_F(EmulatedClusters, CopiesReachBothBlocksSwizzledAndZeroOutside) {
  Exchange exchange;
  ASSERT_EQ(exchange.Run<Mistake::kNone>(), "");
  for (int block = 0; block < 2 * Exchange::kBatch; ++block) {
    for (int row = 0; row < 2 * kBoxRows; ++row) {
      for (int column = 0; column < 64; ++column) {
        const int place = row * 64 + (column / 8 ^ row % 8) * 8 + column % 8;
        const bool is_inside = row < Exchange::kRows && column < Exchange::kColumns;
        const int expected =
            is_inside ? 1 + (block / 2 * Exchange::kRows + row) * Exchange::kColumns + column : 0;
        ASSERT_EQ(exchange.to[static_cast<size_t>(block * kBoxBytes + place)], expected)
            << "block " << block << " row " << row << " column " << column;
      }
    }
  }
}

TEST_F(EmulatedClusters, MistakesAreErrorsOrWrongResults) {
  Exchange right, hasty;
  ASSERT_EQ(right.Run<Mistake::kNone>(), "");
  const std::string error = hasty.Run<Mistake::kNoWait>();
  EXPECT_TRUE(!error.empty() || hasty.to != right.to);
  EXPECT_NE(Exchange().Run<Mistake::kTooFewBytes>(), "");
  EXPECT_THAT(Exchange().Run<Mistake::kNoArrivalOfTheOther>(), HasSubstr("at mbarrier"));
  std::string late;  // in some order of the threads
  for (int run = 0; run < 100 && late.empty(); ++run) {
    late = Exchange().Run<Mistake::kNoSyncAtTheEnd>();
  }
  EXPECT_THAT(late, HasSubstr("of the cluster, which has ended"));
}

__global__ void RankKernel(int* to) {
  if (threadIdx.x == 0) to[blockIdx.x] = static_cast<int>(ClusterRank());
  ClusterSync();
}

TEST_F(EmulatedClusters, AreWhatAGpuRuns) {
  std::vector<int> ranks(6, -1);
  const auto error_of = [&](const LaunchShape& shape) {
    return ErrorOf([&] {
      Stream stream;
      Launch(&RankKernel, shape, stream, ranks.data());
    });
  };
  EXPECT_EQ(error_of(Clusters(6)), "");
  EXPECT_THAT(ranks, ::testing::ElementsAre(0, 1, 0, 1, 0, 1));
  EXPECT_THAT(error_of(Clusters(5)), HasSubstr("in a grid 5 wide"));
  EXPECT_THAT(error_of(Clusters(6, 32)), HasSubstr("whole warpgroups"));
  cuda_emulator::SetComputeCapability(86);
  EXPECT_THAT(error_of(Clusters(6)),
              HasSubstr("a cluster of blocks, compute capability 86 has none"));
}

}  // namespace
}  // namespace tamias::cuda
