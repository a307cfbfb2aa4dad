// wgmma on the emulator against plain loops: every size, type and layout; and that mistakes with
// its registers, waits, fences and shared memory do not go unseen.
#include "tests/cuda_emulator/warpgroups.h"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/cuda/stream.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/primitives_sm90a.cuh"
#include "ops/cuda/shared_memory.cuh"
#include "tests/cuda_emulator/device.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace tamias::cuda {
namespace {

using ::testing::HasSubstr;

constexpr auto kAlong = OperandLayout::kAlongDepth;
constexpr auto kAcross = OperandLayout::kAcrossDepth;

constexpr int kDepth = 128;  // of the contraction: two blocks of 64 columns along it
constexpr int kRows = 64;

// An operand [lines, kDepth] in shared memory; `at` of a line and a depth is its element.
template <OperandLayout kLayout>
struct Operand {
  unsigned char* memory;
  int lines;

  static constexpr bool kIsAlong = kLayout == kAlong;
  int rows() const { return kIsAlong ? lines : kDepth; }
  int columns() const { return kIsAlong ? kDepth : lines; }
  unsigned BlockBytes() const { return static_cast<unsigned>(rows()) * kOperandRowBytes; }
  unsigned char* Piece(int row, int piece) const {
    return memory + static_cast<unsigned>(piece / 8) * BlockBytes() +
           OperandOffset(static_cast<unsigned>(row), static_cast<unsigned>(piece % 8));
  }
  // `from`: [lines, kDepth] row by row. By 128 threads.
  template <typename T, typename Write>
  void Fill(const T* from, const Write& write) const {
    for (int i = static_cast<int>(threadIdx.x) % 128; i < rows() * columns() / 8; i += 128) {
      const int row = i / (columns() / 8), piece = i % (columns() / 8);
      alignas(16) uint16_t words[8];
      for (int e = 0; e < 8; ++e) {
        const int line = kIsAlong ? row : 8 * piece + e, depth = kIsAlong ? 8 * piece + e : row;
        words[e] = from[line * kDepth + depth].bits;
      }
      uint4 vector;
      std::memcpy(&vector, words, sizeof(vector));
      write(Piece(row, piece), vector);
    }
  }
  // Of the 16 from `depth` on.
  uint64_t Describe(int depth) const {
    if (kIsAlong) {
      const unsigned block = static_cast<unsigned>(depth) / 64 * BlockBytes();
      return Advance(DescribeAlongDepth(memory + block), static_cast<unsigned>(depth) % 64 * 2);
    }
    return Advance(DescribeAcrossDepth(memory, BlockBytes()),
                   static_cast<unsigned>(depth) * kOperandRowBytes);
  }
};

__device__ void Store(unsigned char* place, const uint4& vector) { StoreOperand(place, vector); }

// Lane's sums to d [64, N] of the warpgroup.
template <int kColumns>
__device__ void WriteSums(const float (&sums)[kColumns / 2], float* d) {
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, warp = threadIdx.x % 128 / 32;
  for (unsigned i = 0; i < kColumns / 2; ++i) {
    const unsigned row = 16 * warp + g + i % 4 / 2 * 8, column = i / 4 * 8 + 2 * t + i % 2;
    d[row * kColumns + column] = sums[i];
  }
}

// Factor: T, or Float8E4M3, of which each T is a pair.
template <typename T, int kColumns, OperandLayout kLayoutA, OperandLayout kLayoutB,
          typename Factor = T>
__global__ void SharedKernel(const T* a, const T* b, float* d) {
  const Operand<kLayoutA> left{SharedMemory(), kRows};
  const Operand<kLayoutB> right{SharedMemory() + kRows * kDepth * 2, kColumns};
  left.Fill(a, Store);
  right.Fill(b, Store);
  FenceAsyncProxy();
  __syncthreads();
  float sums[kColumns / 2];
  WgmmaFence();
  for (int depth = 0; depth < kDepth; depth += 16) {
    WgmmaFromShared<Factor, kColumns, kLayoutA, kLayoutB>(sums, left.Describe(depth),
                                                          right.Describe(depth), depth > 0);
  }
  WgmmaCommit();
  WgmmaWait<0>();
  WriteSums<kColumns>(sums, d);
}

// Two warpgroups, each with half of the contraction; the second adds to the sums of the first.
template <typename T, int kColumns, OperandLayout kLayoutB>
__global__ void RegistersKernel(const T* a, const T* b, float* d) {
  const Operand<kLayoutB> right{SharedMemory(), kColumns};
  if (threadIdx.x < 128) {
    right.Fill(b, [](unsigned char* place, const uint4& vector) { StoreOperand(place, vector); });
    FenceAsyncProxy();
  }
  __syncthreads();
  const unsigned g = threadIdx.x % 32 / 4, t = threadIdx.x % 4, warp = threadIdx.x % 128 / 32;
  const T* rows = a + (16 * warp + g) * kDepth;
  const auto pair = [&](unsigned row, unsigned depth) {
    const T* place = rows + row * kDepth + depth;
    return place[0].bits | uint32_t{place[1].bits} << 16;
  };
  float sums[kColumns / 2] = {};
  WgmmaFence();
  for (unsigned depth = threadIdx.x < 128 ? 0 : 64; depth < (threadIdx.x < 128 ? 64 : 128);
       depth += 16) {
    const uint32_t left[4] = {pair(0, depth + 2 * t), pair(8, depth + 2 * t),
                              pair(0, depth + 2 * t + 8), pair(8, depth + 2 * t + 8)};
    WgmmaFromRegisters<T, kColumns, kLayoutB>(sums, left, right.Describe(static_cast<int>(depth)),
                                              true);
  }
  WgmmaCommit();
  WgmmaWait<0>();
  if (threadIdx.x < 128) WriteSums<kColumns>(sums, d);
  __syncthreads();
  if (threadIdx.x >= 128) WriteSums<kColumns>(sums, d + kRows * kColumns);
}

template <typename T>
struct Problem {
  explicit Problem(int columns)
      : n(columns),
        a(random.Normal({kRows, kDepth}, 1, DTypeOf<T>::value)),
        b(random.Normal({columns, kDepth}, 1, DTypeOf<T>::value)),
        d({2, kRows, columns}, DType::kF32) {}

  // `parts` of d are added up.
  void Expect(int parts) const {
    const float* found = d.data<float>();
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < n; ++j) {
        double sum = 0;
        for (int k = 0; k < kDepth; ++k) {
          sum += double{ToFloat(a.template data<T>()[kDepth * i + k])} *
                 double{ToFloat(b.template data<T>()[kDepth * j + k])};
        }
        double value = 0;
        for (int part = 0; part < parts; ++part) {
          value += double{found[(part * kRows + i) * n + j]};
        }
        ASSERT_NEAR(value, sum, 1e-4) << i << ", " << j;
      }
    }
  }

  Random random{5};
  int n;
  Tensor a, b, d;
};

// The instruction has no transposition; only the emulator can be asked for one.
__global__ void AcrossFloat8Kernel() {
  float sums[32];
  WgmmaFence();
  cuda_emulator::StartProduct({.type = DType::kF8E4M3, .columns = 64, .b_across = true}, nullptr,
                              sums);
}

LaunchShape ShapeOf(int columns, unsigned threads) {
  return {.name = "test_kernel",
          .grid = 1,
          .block = threads,
          .shared_bytes = static_cast<size_t>(kRows + columns) * kDepth * 2};
}

// The emulated device is a Hopper, with the shared memory that it has.
class EmulatedWgmma : public testing::Test {
 protected:
  EmulatedWgmma() { cuda_emulator::SetComputeCapability(90); }
  ~EmulatedWgmma() override { cuda_emulator::SetComputeCapability(before_); }

 private:
  int before_ = cuda_emulator::ComputeCapability();
};

template <typename T, int kColumns, OperandLayout kLayoutA, OperandLayout kLayoutB>
void CheckShared() {
  SCOPED_TRACE(fmt::format("{} columns, A {}, B {}", kColumns, static_cast<int>(kLayoutA),
                           static_cast<int>(kLayoutB)));
  Problem<T> problem(kColumns);
  Stream stream;
  Launch(&SharedKernel<T, kColumns, kLayoutA, kLayoutB>, ShapeOf(kColumns, 128), stream,
         problem.a.template data<T>(), problem.b.template data<T>(),
         problem.d.template data<float>());
  problem.Expect(1);
  EXPECT_EQ(cuda_emulator::LastLaunch().warpgroup_products, 4 * kDepth / 16);
}

template <typename T, int kColumns>
void CheckColumns() {
  CheckShared<T, kColumns, kAlong, kAlong>();
  CheckShared<T, kColumns, kAlong, kAcross>();
  CheckShared<T, kColumns, kAcross, kAlong>();
  CheckShared<T, kColumns, kAcross, kAcross>();
}

TEST_F(EmulatedWgmma, MatchesPlainLoops) {
  CheckColumns<BFloat16, 64>();
  CheckColumns<BFloat16, 128>();
  CheckColumns<BFloat16, 256>();
  CheckColumns<Float16, 64>();
  CheckColumns<Float16, 128>();
  CheckColumns<Float16, 256>();
}

template <int kColumns>
void CheckFloat8() {
  SCOPED_TRACE(kColumns);
  Random random(kColumns);
  const auto pairs = [&](int64_t rows) {
    Tensor result({rows, kDepth}, DType::kF16);
    for (int64_t i = 0; i < result.NumElements(); ++i) {
      const auto first = ToFloat8E4M3(random.Normal()), second = ToFloat8E4M3(random.Normal());
      result.data<Float16>()[i] = {static_cast<uint16_t>(first.bits | second.bits << 8)};
    }
    return result;
  };
  const Tensor a = pairs(kRows), b = pairs(kColumns);
  Tensor d({kRows, kColumns}, DType::kF32);
  Stream stream;
  Launch(&SharedKernel<Float16, kColumns, kAlong, kAlong, Float8E4M3>, ShapeOf(kColumns, 128),
         stream, a.data<Float16>(), b.data<Float16>(), d.data<float>());
  EXPECT_EQ(cuda_emulator::LastLaunch().warpgroup_products, 4 * kDepth / 16);
  const auto at = [](const Tensor& pair, int row, int k) {
    return double{ToFloat(static_cast<const Float8E4M3*>(pair.view().raw())[2 * kDepth * row + k])};
  };
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kColumns; ++j) {
      double sum = 0;
      for (int k = 0; k < 2 * kDepth; ++k) sum += at(a, i, k) * at(b, j, k);
      ASSERT_NEAR(d.data<float>()[i * kColumns + j], sum, 1e-4) << i << ", " << j;
    }
  }
}

TEST_F(EmulatedWgmma, OfFloat8MatchesPlainLoops) {
  CheckFloat8<64>();
  CheckFloat8<128>();
  CheckFloat8<256>();
}

TEST_F(EmulatedWgmma, OfFloat8IsAlongTheContraction) {
  EXPECT_THAT(ErrorOf([&] {
                Stream stream;
                Launch(&AcrossFloat8Kernel, ShapeOf(64, 128), stream);
              }),
              HasSubstr("wgmma: e4m3 lies along the contraction in both operands"));
}

template <typename T, int kColumns, OperandLayout kLayoutB>
void CheckRegisters() {
  Problem<T> problem(kColumns);
  Stream stream;
  Launch(&RegistersKernel<T, kColumns, kLayoutB>, ShapeOf(kColumns, 256), stream,
         problem.a.template data<T>(), problem.b.template data<T>(),
         problem.d.template data<float>());
  problem.Expect(2);
}

TEST_F(EmulatedWgmma, MatchesPlainLoopsWithRegisters) {
  CheckRegisters<BFloat16, 64, kAlong>();
  CheckRegisters<BFloat16, 128, kAcross>();
  CheckRegisters<Float16, 256, kAcross>();
  CheckRegisters<Float16, 128, kAlong>();
}

// ---- mistakes, in a product of [64, 128] and [128, 64] ------------------------------------------
enum class Mistake {
  kNone,
  kNoProxyFence,
  kPlainStore,
  kCopyNotWaitedFor,
  kNoFence,
  kNoFenceAfterTheWait,
  kRegistersChanged,
  kNoWait,
  kNotWaitedFor,
  kOverwritten,
  kThreeWarps,
  kWarpsDiffer,
  kLanesDiffer,
  kMisaligned,
  kMisplaced,
  kTooFar,
  kNoSwizzle,
};

template <Mistake kMistake>
__device__ void FillOperand(const Operand<kAlong>& operand, const BFloat16* from) {
  if constexpr (kMistake == Mistake::kCopyNotWaitedFor) {
    for (int i = static_cast<int>(threadIdx.x); i < operand.lines * kDepth / 8; i += 128) {
      CpAsync16(operand.Piece(i / 16, i % 16), from + 8 * i);
    }
  } else {
    operand.Fill(from, [](unsigned char* place, const uint4& vector) {
      if (kMistake == Mistake::kPlainStore) {
        *reinterpret_cast<uint4*>(place) = vector;
      } else {
        StoreOperand(place, vector);
      }
    });
  }
}

template <Mistake kMistake>
__device__ uint64_t Change(uint64_t b) {
  switch (kMistake) {
    case Mistake::kWarpsDiffer:
      return threadIdx.x / 32 == 2 ? Advance(b, 32) : b;
    case Mistake::kLanesDiffer:
      return threadIdx.x % 32 == 2 ? Advance(b, 32) : b;
    case Mistake::kMisaligned:
      return Advance(b, 16);
    case Mistake::kMisplaced:
      return Advance(b, 128);
    case Mistake::kTooFar:
      return Advance(b, 64 * 128);
    case Mistake::kNoSwizzle:
      return b & ~(uint64_t{1} << 62);
    default:
      return b;
  }
}

template <Mistake kMistake>
__global__ void MistakenKernel(const BFloat16* a, const BFloat16* b, float* d) {
  const Operand<kAlong> left{SharedMemory(), kRows};
  const Operand<kAlong> right{SharedMemory() + kRows * kDepth * 2, 64};
  FillOperand<kMistake>(left, a);
  FillOperand<kMistake>(right, b);
  if (kMistake != Mistake::kNoProxyFence) FenceAsyncProxy();
  __syncthreads();
  if (kMistake == Mistake::kThreeWarps && threadIdx.x >= 96) return;
  float sums[32] = {};
  if (kMistake != Mistake::kNoFence) WgmmaFence();
  for (int depth = 0; depth < kDepth; depth += 16) {
    WgmmaFromShared<BFloat16, 64, kAlong, kAlong>(
        sums, left.Describe(depth), Change<kMistake>(right.Describe(depth)), depth > 0);
  }
  WgmmaCommit();
  if (kMistake == Mistake::kNotWaitedFor) return;
  if (kMistake == Mistake::kNoWait) {
    WriteSums<64>(sums, d);
    WgmmaWait<0>();
    return;
  }
  if (kMistake == Mistake::kOverwritten) {
    __syncthreads();  // all have started
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kDepth / 8; i += 128) {
      StoreOperand(left.memory + 16 * i, uint4{});
    }
  }
  WgmmaWait<0>();
  if (kMistake == Mistake::kNoFenceAfterTheWait) {
    WgmmaFromShared<BFloat16, 64, kAlong, kAlong>(sums, left.Describe(0), right.Describe(0), true);
  }
  if (kMistake == Mistake::kRegistersChanged) {
    float other[32] = {};
    WgmmaFence();
    WgmmaFromShared<BFloat16, 64, kAlong, kAlong>(other, left.Describe(0), right.Describe(0), true);
    WgmmaCommit();
    const uint32_t words[4] = {};
    WgmmaFromRegisters<BFloat16, 64, kAlong>(other, words, right.Describe(0), true);
  }
  WriteSums<64>(sums, d);
}

template <Mistake kMistake>
std::string ErrorOfMistake(Problem<BFloat16>& problem, unsigned threads = 128) {
  return ErrorOf([&] {
    Stream stream;
    Launch(&MistakenKernel<kMistake>, ShapeOf(64, threads), stream, problem.a.data<BFloat16>(),
           problem.b.data<BFloat16>(), problem.d.data<float>());
  });
}

TEST_F(EmulatedWgmma, NeedsAProxyFenceBehindWhatWasWritten) {
  Problem<BFloat16> problem(64);
  EXPECT_EQ(ErrorOfMistake<Mistake::kNone>(problem), "");
  problem.Expect(1);
  EXPECT_THAT(ErrorOfMistake<Mistake::kNoProxyFence>(problem),
              HasSubstr("of shared memory: no fence.proxy.async since thread"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kPlainStore>(problem),
              HasSubstr("of shared memory was written by an ordinary store"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kCopyNotWaitedFor>(problem),
              HasSubstr("of shared memory: a copy to it has not landed"));
}

TEST_F(EmulatedWgmma, NeedsAFenceBehindChangedRegisters) {
  Problem<BFloat16> problem(64);
  EXPECT_THAT(ErrorOfMistake<Mistake::kNoFence>(problem), HasSubstr("wgmma: no wgmma.fence since"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kNoFenceAfterTheWait>(problem),
              HasSubstr("no wgmma.fence since the sums may have been changed"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kRegistersChanged>(problem),
              HasSubstr("no wgmma.fence since A in registers may have been changed"));
}

TEST_F(EmulatedWgmma, SumsAreUnreadableUntilTheWait) {
  Problem<BFloat16> problem(64);
  EXPECT_EQ(ErrorOfMistake<Mistake::kNoWait>(problem), "");
  for (int i = 0; i < kRows * 64; ++i) EXPECT_TRUE(std::isnan(problem.d.data<float>()[i]));
  EXPECT_THAT(ErrorOfMistake<Mistake::kNotWaitedFor>(problem),
              HasSubstr("ended with 8 products that it did not wait for"));
}

TEST_F(EmulatedWgmma, ReadsSharedMemoryAtAnyTimeUntilTheWait) {
  Problem<BFloat16> problem(64), right(64);
  ASSERT_EQ(ErrorOfMistake<Mistake::kNone>(right), "");
  int wrong = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    cuda_emulator::SetSeed(seed);
    EXPECT_EQ(ErrorOfMistake<Mistake::kOverwritten>(problem), "");
    wrong += LargestError(problem.d, right.d) != 0 ? 1 : 0;
  }
  EXPECT_GT(wrong, 5);
}

TEST_F(EmulatedWgmma, IsOfAWholeWarpgroupThatAgrees) {
  Problem<BFloat16> problem(64);
  EXPECT_THAT(ErrorOfMistake<Mistake::kNone>(problem, 96),
              HasSubstr("is in no whole warpgroup: 96 threads in a block"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kThreeWarps>(problem),
              HasSubstr("warp 3 did not start the products"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kWarpsDiffer>(problem),
              HasSubstr("is not that of its warpgroup's other warps"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kLanesDiffer>(problem), HasSubstr("the lanes of warp"));
}

TEST_F(EmulatedWgmma, RefusesOperandsThatAreNotWhereTheyMayBe) {
  Problem<BFloat16> problem(64);
  EXPECT_THAT(
      ErrorOfMistake<Mistake::kMisaligned>(problem),
      HasSubstr("wgmma: B: byte 16400 of shared memory: expected a multiple of 1024, and 0, "
                "32, 64 or 96 behind it"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kMisplaced>(problem),
              HasSubstr("wgmma: B: byte 16512 of shared memory: expected a multiple of 1024"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kTooFar>(problem),
              HasSubstr("wgmma: B: reads byte 32768 of 32768 bytes of shared memory"));
  EXPECT_THAT(ErrorOfMistake<Mistake::kNoSwizzle>(problem),
              HasSubstr("expected the 128-byte swizzle"));
}

// A lane's address outside dynamic shared memory.
__global__ void AddressKernel(const unsigned char* somewhere) { DescribeAlongDepth(somewhere); }

TEST_F(EmulatedWgmma, RefusesOperandsOutsideDynamicSharedMemory) {
  const unsigned char somewhere = 0;
  const unsigned char* pointer = &somewhere;
  EXPECT_THAT(ErrorOf([&] {
                Stream stream;
                Launch(&AddressKernel, ShapeOf(64, 32), stream, pointer);
              }),
              HasSubstr("is not in dynamic shared memory"));
}

}  // namespace
}  // namespace tamias::cuda
