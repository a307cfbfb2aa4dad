// The emulator itself: collectives, barriers, asynchronous copies and operand layouts against plain
// loops, and that mistakes in kernels do not go unseen.
#include "tests/cuda_emulator/emulator.h"

#include <fmt/format.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/cuda/device.h"
#include "base/cuda/memory.h"
#include "base/cuda/peer.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/shared_memory.cuh"
#include "ops/cuda/vector.cuh"
#include "tamias/context.h"
#include "tamias/devices.h"
#include "tests/cuda_emulator/device.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace tamias::cuda {
namespace {

using ::testing::HasSubstr;

LaunchShape OneBlock(unsigned threads, size_t shared_bytes = 0) {
  return {.name = "test_kernel", .grid = 1, .block = threads, .shared_bytes = shared_bytes};
}

__global__ void ShuffleKernel(int* to) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* row = to + 6 * threadIdx.x;
  row[0] = __shfl_sync(kFullWarp, lane, 5);
  row[1] = __shfl_sync(kFullWarp, lane, 3, 8);
  row[2] = __shfl_xor_sync(kFullWarp, lane, 6);
  row[3] = __shfl_up_sync(kFullWarp, lane, 3, 16);
  row[4] = __shfl_down_sync(kFullWarp, lane, 3, 16);
  row[5] = static_cast<int>(__ballot_sync(kFullWarp, lane % 3 == 0));
}

TEST(CudaEmulator, ShufflesAndBallots) {
  std::vector<int> found(64 * 6);
  Stream stream;
  Launch(&ShuffleKernel, OneBlock(64), stream, found.data());
  unsigned thirds = 0;
  for (int lane = 0; lane < 32; lane += 3) thirds |= 1u << lane;
  for (int thread = 0; thread < 64; ++thread) {
    const int lane = thread % 32;
    const int* row = found.data() + 6 * thread;
    EXPECT_EQ(row[0], 5);
    EXPECT_EQ(row[1], lane / 8 * 8 + 3);
    EXPECT_EQ(row[2], lane ^ 6);
    EXPECT_EQ(row[3], lane % 16 < 3 ? lane : lane - 3);
    EXPECT_EQ(row[4], lane % 16 > 12 ? lane : lane + 3);
    EXPECT_EQ(static_cast<unsigned>(row[5]), thirds);
  }
}

__global__ void ReduceKernel(float* to) {
  const auto lane = static_cast<float>(threadIdx.x);
  to[2 * threadIdx.x] = WarpSum<8>(lane);
  to[2 * threadIdx.x + 1] = WarpMax<4>(-lane);
}

TEST(CudaEmulator, WarpReductions) {
  std::vector<float> found(64);
  Stream stream;
  Launch(&ReduceKernel, OneBlock(32), stream, found.data());
  for (size_t lane = 0; lane < 32; ++lane) {
    const float first = static_cast<float>(lane / 8 * 8);
    EXPECT_EQ(found[2 * lane], 8 * first + 28);
    EXPECT_EQ(found[2 * lane + 1], -static_cast<float>(lane / 4 * 4));
  }
}

// Reverses 128 numbers through shared memory.
template <bool kWithBarrier>
__global__ void ReverseKernel(int* numbers) {
  __shared__ int shared[128];
  shared[threadIdx.x] = numbers[128 * blockIdx.x + threadIdx.x];
  if (kWithBarrier) __syncthreads();
  numbers[128 * blockIdx.x + threadIdx.x] = shared[127 - threadIdx.x];
}

TEST(CudaEmulator, BarriersOrderTheThreadsOfABlock) {
  std::vector<int> numbers(128 * 5);
  std::iota(numbers.begin(), numbers.end(), 0);
  Stream stream;
  const LaunchShape shape{.name = "reverse", .grid = 5, .block = 128};
  Launch(&ReverseKernel<true>, shape, stream, numbers.data());
  for (int i = 0; i < 128 * 5; ++i) {
    ASSERT_EQ(numbers[static_cast<size_t>(i)], i / 128 * 128 + 127 - i % 128);
  }
}

TEST(CudaEmulator, AMissingBarrierIsAWrongResult) {
  std::vector<int> numbers(128), expected(128);
  std::iota(numbers.begin(), numbers.end(), 1000);
  std::reverse_copy(numbers.begin(), numbers.end(), expected.begin());
  Stream stream;
  Launch(&ReverseKernel<false>, OneBlock(128), stream, numbers.data());
  EXPECT_NE(numbers, expected);
}

__global__ void CountKernel(int* to, int threshold) {
  const int thread = static_cast<int>(threadIdx.x);
  to[thread] = __syncthreads_count(thread < threshold);
  atomicAdd(to + blockDim.x, thread);
}

TEST(CudaEmulator, BarriersCountPredicates) {
  std::vector<int> found(97, 0);
  Stream stream;
  Launch(&CountKernel, OneBlock(96), stream, found.data(), 41);
  EXPECT_THAT(std::vector<int>(found.begin(), found.begin() + 96), ::testing::Each(41));
  EXPECT_EQ(found[96], 95 * 96 / 2);
}

// Copies two groups of 16 bytes per thread and waits until `kGroupsLeft` are in flight.
template <int kGroupsLeft>
__global__ void CopyKernel(const float4* from, float* to) {
  auto* shared = reinterpret_cast<float4*>(SharedMemory());
  const unsigned thread = threadIdx.x;
  CpAsync16(shared + thread, from + thread);
  CpAsyncCommit();
  CpAsync16(shared + 32 + thread, from + 32 + thread, thread % 2 == 0);
  CpAsyncCommit();
  CpAsyncWait<kGroupsLeft>();
  __syncthreads();
  to[thread] = shared[31 - thread].y;
  to[32 + thread] = shared[63 - thread].y;
}

TEST(CudaEmulator, AsynchronousCopiesAreThereOnlyAfterTheWait) {
  std::vector<float4> from(64);
  for (size_t i = 0; i < 64; ++i) from[i] = {0, static_cast<float>(i + 1), 0, 0};
  std::vector<float> found(64);
  Stream stream;
  Launch(&CopyKernel<0>, OneBlock(32, 1024), stream, from.data(), found.data());
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(found[i], static_cast<float>(32 - i));
    EXPECT_EQ(found[32 + i], i % 2 == 0 ? 0.0f : static_cast<float>(64 - i));  // the rest is zero
  }
  Launch(&CopyKernel<1>, OneBlock(32, 1024), stream, from.data(), found.data());
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(found[i], static_cast<float>(32 - i));
    EXPECT_TRUE(std::isnan(found[32 + i]));
  }
  EXPECT_EQ(cuda_emulator::LastLaunch().async_copies, 64);
}

// Loads four 8x8 matrices of rows of 64 elements: each lane's four pairs go to `to`.
template <bool kTransposed>
__global__ void LoadMatrixKernel(const uint16_t* from, uint32_t* to, unsigned row_stride) {
  auto* shared = reinterpret_cast<uint16_t*>(SharedMemory());
  for (unsigned i = threadIdx.x; i < 32 * row_stride; i += 32) shared[i] = from[i];
  __syncwarp();
  uint32_t registers[4];
  const uint16_t* row = shared + threadIdx.x * row_stride;
  if (kTransposed) {
    LdMatrixX4Transposed(registers, row);
  } else {
    LdMatrixX4(registers, row);
  }
  for (unsigned m = 0; m < 4; ++m) to[4 * threadIdx.x + m] = registers[m];
}

TEST(CudaEmulator, MatrixLoadsHaveTheLayoutOfTheManual) {
  std::vector<uint16_t> from(32 * 64);
  std::iota(from.begin(), from.end(), uint16_t{0});
  std::vector<uint32_t> plain(128), transposed(128);
  Stream stream;
  const LaunchShape shape = OneBlock(32, from.size() * 2);
  Launch(&LoadMatrixKernel<false>, shape, stream, from.data(), plain.data(), 64u);
  EXPECT_EQ(cuda_emulator::LastLaunch().matrix_load_conflicts, 4 * 7);  // all rows in one bank
  Launch(&LoadMatrixKernel<true>, shape, stream, from.data(), transposed.data(), 64u);
  for (size_t lane = 0; lane < 32; ++lane) {
    for (size_t m = 0; m < 4; ++m) {
      const uint16_t* matrix = from.data() + 8 * m * 64;
      const size_t g = lane / 4, t = lane % 4;
      EXPECT_EQ(plain[4 * lane + m] & 0xFFFFu, matrix[g * 64 + 2 * t]);
      EXPECT_EQ(plain[4 * lane + m] >> 16, matrix[g * 64 + 2 * t + 1]);
      EXPECT_EQ(transposed[4 * lane + m] & 0xFFFFu, matrix[2 * t * 64 + g]);
      EXPECT_EQ(transposed[4 * lane + m] >> 16, matrix[(2 * t + 1) * 64 + g]);
    }
  }
  Launch(&LoadMatrixKernel<false>, shape, stream, from.data(), plain.data(), 8u);
  EXPECT_EQ(cuda_emulator::LastLaunch().matrix_load_conflicts, 0);
}

// d += A B for A [16, 16] and B [16, 8] row by row, with the operand layouts of the manual.
template <typename T>
__global__ void ProductKernel(const T* a, const T* b, float* d) {
  const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
  const auto pair = [](T low, T high) { return low.bits | static_cast<uint32_t>(high.bits) << 16; };
  const auto a_pair = [&](unsigned i, unsigned k) {
    return pair(a[16 * i + k], a[16 * i + k + 1]);
  };
  const auto b_pair = [&](unsigned k, unsigned j) {
    return pair(b[8 * k + j], b[8 * (k + 1) + j]);
  };
  const uint32_t a_registers[4] = {a_pair(g, 2 * t), a_pair(g + 8, 2 * t), a_pair(g, 2 * t + 8),
                                   a_pair(g + 8, 2 * t + 8)};
  float* places[4] = {d + 8 * g + 2 * t, d + 8 * g + 2 * t + 1, d + 8 * (g + 8) + 2 * t,
                      d + 8 * (g + 8) + 2 * t + 1};
  float sums[4] = {*places[0], *places[1], *places[2], *places[3]};
  Mma16816<T>(sums, a_registers, b_pair(2 * t, g), b_pair(2 * t + 8, g));
  for (unsigned i = 0; i < 4; ++i) *places[i] = sums[i];
}

template <typename T>
void ExpectProduct() {
  Random random(3);
  const Tensor a = random.Normal({16, 16}, 1, DTypeOf<T>::value);
  const Tensor b = random.Normal({16, 8}, 1, DTypeOf<T>::value);
  Tensor d = random.Normal({16, 8});
  const Tensor before = Tensor::CopyOf(d);
  Stream stream;
  Launch(&ProductKernel<T>, OneBlock(32), stream, a.data<T>(), b.data<T>(), d.data<float>());
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      double sum = double{before.data<float>()[8 * i + j]};
      for (int k = 0; k < 16; ++k) {
        sum += double{ToFloat(a.data<T>()[16 * i + k])} * double{ToFloat(b.data<T>()[8 * k + j])};
      }
      EXPECT_NEAR(double{d.data<float>()[8 * i + j]}, sum, 1e-5);
    }
  }
}

TEST(CudaEmulator, ProductsHaveTheLayoutOfTheManual) {
  ExpectProduct<BFloat16>();
  ExpectProduct<Float16>();
}

TEST(CudaEmulator, PairsRoundAndComeBack) {
  const float2 exact = UnpackPair<Float16>(PackPair<Float16>(-1.5f, 0.25f));
  EXPECT_EQ(exact.x, -1.5f);
  EXPECT_EQ(exact.y, 0.25f);
  EXPECT_EQ(UnpackPair<BFloat16>(PackPair<BFloat16>(1.0f + 0x1p-8f, 3)).x, 1.0f);  // ties to even
  EXPECT_EQ(UnpackPair<BFloat16>(PackPair<BFloat16>(1, 3)).y, 3.0f);
}

__global__ void DeadlockKernel() {
  if (threadIdx.x < 40) {
    __syncthreads();
  } else {
    __syncwarp();
  }
}

TEST(CudaEmulator, ReportsADeadlock) {
  Stream stream;
  const std::string error = ErrorOf([&] { Launch(&DeadlockKernel, OneBlock(64), stream); });
  EXPECT_THAT(error, HasSubstr("test_kernel: deadlock in block (0, 0, 0)"));
  EXPECT_THAT(error, HasSubstr("32 threads of warp 0 at __syncthreads"));
  EXPECT_THAT(error, HasSubstr("8 threads of warp 1 at __syncthreads"));
  EXPECT_THAT(error, HasSubstr("24 threads of warp 1 at __syncwarp"));
}

__global__ void DivergentKernel() {
  if (threadIdx.x < 3) {
    __syncwarp();
  } else {
    __ballot_sync(kFullWarp, 1);
  }
}

__global__ void OverrunKernel() { reinterpret_cast<float*>(SharedMemory())[threadIdx.x] = 1; }

TEST(CudaEmulator, ReportsMistakesByName) {
  Stream stream;
  EXPECT_THAT(ErrorOf([&] { Launch(&DivergentKernel, OneBlock(32), stream); }),
              HasSubstr("test_kernel: warp 0 diverges"));
  EXPECT_THAT(ErrorOf([&] { Launch(&OverrunKernel, OneBlock(32, 64), stream); }),
              HasSubstr("wrote 0 bytes behind its 64 bytes of shared memory"));
  EXPECT_EQ(ErrorOf([&] { Launch(&OverrunKernel, OneBlock(32, 128), stream); }), "");
}

// ---- what a GPU refuses -------------------------------------------------------------------------

// The emulated device has this compute capability for the time of a test.
class EmulatedCapability {
 public:
  explicit EmulatedCapability(int value) : before_(cuda_emulator::ComputeCapability()) {
    cuda_emulator::SetComputeCapability(value);
  }
  ~EmulatedCapability() { cuda_emulator::SetComputeCapability(before_); }
  EmulatedCapability(const EmulatedCapability&) = delete;
  EmulatedCapability& operator=(const EmulatedCapability&) = delete;

 private:
  int before_;
};

struct Work {
  int64_t numbers[11];
};

// 88 bytes of static shared memory beside the dynamic.
template <int kVersion>
__global__ void StaticAndDynamicKernel(int* to) {
  __shared__ Work work;
  if (threadIdx.x == 0) work.numbers[10] = kVersion;
  __syncthreads();
  to[threadIdx.x] = static_cast<int>(work.numbers[10]);
}

// As the runtime would launch it, without Launch's asking.
template <typename... Arguments>
void RunUnasked(void (*kernel)(Arguments...), const LaunchShape& shape, Arguments... arguments) {
  cuda_emulator::Run({shape.name, reinterpret_cast<const void*>(kernel), shape.grid, shape.block,
                      shape.shared_bytes},
                     [&] { kernel(arguments...); });
}

TEST(CudaEmulator, CountsTheSharedVariablesOfAKernel) {
  const auto static_bytes = [](auto kernel) {
    return cuda_emulator::StaticSharedBytes({.function = reinterpret_cast<const void*>(kernel)});
  };
  EXPECT_EQ(static_bytes(&StaticAndDynamicKernel<0>), sizeof(Work));
  EXPECT_EQ(static_bytes(&ReverseKernel<true>), 128 * sizeof(int));
  EXPECT_EQ(static_bytes(&OverrunKernel), 0u);
}

TEST(CudaEmulator, RefusesMoreThan48KibOfStaticAndDynamicSharedMemoryUnasked) {
  std::vector<int> found(32);
  const LaunchShape full = OneBlock(32, 48 * 1024);
  const std::string error =
      ErrorOf([&] { RunUnasked(&StaticAndDynamicKernel<1>, full, found.data()); });
  EXPECT_THAT(error,
              HasSubstr("test_kernel: 50176 bytes of shared memory (49152 dynamic, 1024 static)"));
  EXPECT_THAT(error, HasSubstr("not allowed more than 48128 dynamic"));
  EXPECT_EQ(ErrorOf([&] {
              RunUnasked(&StaticAndDynamicKernel<1>, OneBlock(32, 47 * 1024), found.data());
            }),
            "");
  Stream stream;
  Launch(&StaticAndDynamicKernel<1>, full, stream, found.data());  // Launch asks for it
  EXPECT_THAT(found, ::testing::Each(1));
}

template <int kBytes>
__global__ void StaticKernel(unsigned char* to, int write, int read) {
  __shared__ unsigned char bytes[kBytes];
  bytes[write] = 7;
  *to = bytes[read];  // at a place that the compiler does not know: it keeps the variable
}

TEST(CudaEmulator, RefusesMoreThan48KibOfStaticSharedMemory) {
  unsigned char found = 0;
  Stream stream;
  Launch(&StaticKernel<48 * 1024>, OneBlock(1), stream, &found, 5, 5);
  EXPECT_EQ(found, 7);
  EXPECT_EQ(
      ErrorOf([&] { Launch(&StaticKernel<48 * 1024 + 1>, OneBlock(1), stream, &found, 5, 5); }),
      "test_kernel: 49153 bytes of static shared memory, at most 49152 can be declared");
}

TEST(CudaEmulator, RefusesMoreSharedMemoryThanTheDeviceHas) {
  std::vector<int> found(32);
  const size_t kib = 1024;
  const std::pair<int, size_t> devices[] = {{80, 163 * kib}, {86, 99 * kib},  {87, 163 * kib},
                                            {89, 99 * kib},  {90, 227 * kib}, {100, 227 * kib},
                                            {120, 99 * kib}};
  for (const auto& [capability, most] : devices) {
    const EmulatedCapability device(capability);
    Stream stream;
    const LaunchShape fits = OneBlock(32, most - kib), beyond = OneBlock(32, most - kib + 16);
    Launch(&StaticAndDynamicKernel<2>, fits, stream, found.data());
    EXPECT_THAT(found, ::testing::Each(2));
    EXPECT_EQ(
        ErrorOf([&] { Launch(&StaticAndDynamicKernel<2>, beyond, stream, found.data()); }),
        fmt::format("test_kernel: a block asks for {} bytes of shared memory ({} dynamic, 1024 "
                    "static), emulator allows {}",
                    most + 16, most - kib + 16, most));
    EXPECT_THAT(ErrorOf([&] { RunUnasked(&StaticAndDynamicKernel<2>, beyond, found.data()); }),
                HasSubstr(fmt::format("compute capability {} has {}", capability, most)));
  }
}

__global__ void NothingKernel() {}

TEST(CudaEmulator, RefusesBlocksAndGridsThatNoGpuTakes) {
  const auto error_of = [](dim3 grid, dim3 block) {
    return ErrorOf(
        [&] { RunUnasked(&NothingKernel, {.name = "k", .grid = grid, .block = block}); });
  };
  EXPECT_EQ(error_of({2, 3, 4}, {32, 2, 2}), "");
  EXPECT_EQ(error_of(1, 1024), "");
  EXPECT_THAT(error_of(1, 1025),
              HasSubstr("a block of 1025 x 1 x 1, a GPU takes 1 to 1024 x 1024 x 64"));
  EXPECT_THAT(error_of(1, 0), HasSubstr("a block of 0 x 1 x 1"));
  EXPECT_THAT(error_of(1, {4, 4, 65}), HasSubstr("a block of 4 x 4 x 65"));
  EXPECT_THAT(error_of(1, {64, 17}),
              HasSubstr("1088 threads in a block, a GPU takes at most 1024"));
  EXPECT_THAT(error_of({1, 65536}, 1), HasSubstr("a grid of 1 x 65536 x 1"));
  EXPECT_THAT(error_of({1, 1, 65536}, 1), HasSubstr("a grid of 1 x 1 x 65536"));
  EXPECT_THAT(error_of({0x80000000u}, 1), HasSubstr("a grid of 2147483648 x 1 x 1"));
  for (const dim3& grid : {dim3(0), dim3(1, 0), dim3(1, 1, 0)}) {
    EXPECT_THAT(error_of(grid, 1), HasSubstr("k: a grid of"));
  }
  Stream stream;  // Launch launches nothing for an empty grid, and says the same of a large one
  Launch(&NothingKernel, {.name = "k", .grid = {1, 0}, .block = 1}, stream);
  EXPECT_EQ(ErrorOf([&] {
              Launch(&NothingKernel, {.name = "k", .grid = {5, 65536}, .block = 1}, stream);
            }),
            "k: a grid of 5 x 65536 x 1 blocks, a GPU allows 2147483647 x 65535 x 65535");
}

__global__ void __launch_bounds__(128) BoundedKernel(int* to) {
  CheckLaunchBounds<128>();
  to[threadIdx.x] = 1;
}

TEST(CudaEmulator, RefusesBlocksBeyondTheLaunchBounds) {
  std::vector<int> found(160);
  Stream stream;
  Launch(&BoundedKernel, OneBlock(128), stream, found.data());
  EXPECT_EQ(ErrorOf([&] { Launch(&BoundedKernel, OneBlock(160), stream, found.data()); }),
            "test_kernel: 160 threads in a block, the kernel's launch bounds allow 128");
}

__global__ void CopyFromKernel(const std::byte* from) { CpAsync16(SharedMemory(), from); }
__global__ void CopyToKernel(const std::byte* from, int offset) {
  CpAsync16(SharedMemory() + offset, from);
}
__global__ void LoadMatrixFromKernel(int offset) {
  uint32_t registers[4];
  LdMatrixX4(registers, SharedMemory() + offset + 16 * threadIdx.x);
}

TEST(CudaEmulator, RefusesMisalignedCopiesAndMatrixLoads) {
  alignas(16) static std::byte memory[64] = {};
  const std::byte* aligned = memory;
  Stream stream;
  for (const int offset : {1, 4, 8}) {
    const std::byte* from = aligned + offset;
    EXPECT_THAT(ErrorOf([&] { Launch(&CopyFromKernel, OneBlock(1, 512), stream, from); }),
                HasSubstr("test_kernel: cp.async from global memory"));
    EXPECT_THAT(ErrorOf([&] { Launch(&CopyToKernel, OneBlock(1, 512), stream, aligned, offset); }),
                HasSubstr("test_kernel: cp.async to shared memory"));
    EXPECT_THAT(ErrorOf([&] { Launch(&LoadMatrixFromKernel, OneBlock(32, 1024), stream, offset); }),
                HasSubstr("test_kernel: ldmatrix"));
  }
  EXPECT_EQ(ErrorOf([&] { Launch(&CopyToKernel, OneBlock(1, 512), stream, aligned, 16); }), "");
}

template <typename T>
__global__ void LoadKernel(const std::byte* from, T* to) {
  *to = *reinterpret_cast<const T*>(from);
}
template <typename T>
__global__ void StoreKernel(std::byte* to) {
  *reinterpret_cast<T*>(to) = {};
}
template <typename T>
__global__ void StoreSharedKernel(int offset) {
  *reinterpret_cast<T*>(SharedMemory() + offset) = {};
}

// Every access at every offset below its size is refused, and at its size it is not.
template <typename T>
void ExpectAlignedAccesses() {
  alignas(16) static std::byte memory[64] = {};
  static T value;
  Stream stream;
  const auto size = static_cast<int>(sizeof(T));
  for (int offset = 0; offset <= size; ++offset) {
    SCOPED_TRACE(fmt::format("{} bytes at offset {}", size, offset));
    const std::string errors[] = {
        ErrorOf([&] {
          const std::byte* from = memory + offset;
          Launch(&LoadKernel<T>, OneBlock(1), stream, from, &value);
        }),
        ErrorOf([&] { Launch(&StoreKernel<T>, OneBlock(1), stream, memory + offset); }),
        ErrorOf([&] { Launch(&StoreSharedKernel<T>, OneBlock(1, 64), stream, offset); }),
    };
    for (const std::string& error : errors) {
      if (offset % size == 0) {
        EXPECT_EQ(error, "");
      } else {
        EXPECT_THAT(error, HasSubstr("test_kernel: emulator_test.cc:"));
        EXPECT_THAT(error, HasSubstr(fmt::format("is not a multiple of {}", size)));
      }
    }
  }
}

TEST(CudaEmulator, RefusesMisalignedLoadsAndStores) {
  ExpectAlignedAccesses<uint4>();
  ExpectAlignedAccesses<float4>();
  ExpectAlignedAccesses<float2>();
  ExpectAlignedAccesses<uint2>();
  ExpectAlignedAccesses<double>();
  ExpectAlignedAccesses<float>();
  ExpectAlignedAccesses<uint16_t>();
}

__global__ void Load8Kernel(const float* from, int64_t offset, float* to) {
  to[0] = Load8(from, DType::kF32, offset)[7];
}

TEST(CudaEmulator, SeesAMisalignedVectorInsideTheKernelsOwnFunctions) {
  alignas(16) float from[16] = {};
  float to = 0;
  const float* pointer = from;
  Stream stream;
  EXPECT_EQ(ErrorOf([&] { Launch(&Load8Kernel, OneBlock(1), stream, pointer, 4, &to); }), "");
  const std::string error =
      ErrorOf([&] { Launch(&Load8Kernel, OneBlock(1), stream, pointer, 2, &to); });
  EXPECT_THAT(error, HasSubstr("test_kernel: vector.cuh:"));
  EXPECT_THAT(error, HasSubstr("is not a multiple of 16"));
  // A launch that ended early leaves nothing behind.
  EXPECT_EQ(ErrorOf([&] { Launch(&Load8Kernel, OneBlock(64), stream, pointer, 8, &to); }), "");
}

TEST(CudaDevice, IsRefusedByNameWhenItIsTooOld) {
  const EmulatedCapability turing(75);
  const char* expected = "emulator (compute capability 7.5): 8.0 or later is needed";
  EXPECT_EQ(PropertiesOf(0).compute_capability, 75);
  EXPECT_EQ(ErrorOf([] { CheckDevice({DeviceType::kCuda, 0}); }), expected);
  EXPECT_EQ(ErrorOf([] { Context({{DeviceType::kCuda, 0}, DType::kBF16}, 1); }), expected);
  EXPECT_EQ(ErrorOf([] { CheckDevice({}); }), "");
}

TEST(CudaMemory, CopiesThereAndBack) {
  ASSERT_EQ(DeviceCount(), 1);
  EXPECT_EQ(PropertiesOf(0).name, "emulator");
  EXPECT_THAT(ErrorOf([] { PropertiesOf(1); }), HasSubstr("GPU 1: this machine has 1"));
  Random random(1);
  const Tensor host = random.Normal({3, 5});
  Stream stream;
  Tensor device = DeviceTensor({3, 5}, DType::kF32, 0);
  EXPECT_EQ(device.view().device(), stream.device());
  Tensor back({3, 5}, DType::kF32);
  Copy(stream, host, device);
  Copy(stream, device, back);
  stream.Synchronize();
  EXPECT_EQ(LargestError(back, host), 0);
  Zero(stream, device);
  Copy(stream, device, back);
  stream.Synchronize();
  for (int i = 0; i < 15; ++i) EXPECT_EQ(back.data<float>()[i], 0);
  EXPECT_THAT(ErrorOf([&] { Copy(stream, host.view().Slice(1, 0, 2), device); }),
              HasSubstr("copy: source: expected a contiguous tensor"));
  EXPECT_THAT(ErrorOf([&] { Copy(stream, host.view().Slice(0, 0, 2), device); }),
              HasSubstr("copy: destination: expected f32 [2, 5], found f32 [3, 5]"));
}

// While it lives there are two devices.
struct TwoDevices {
  TwoDevices() { cuda_emulator::SetDevices({"emulator", "another"}); }
  ~TwoDevices() { cuda_emulator::SetDevices({"emulator"}); }
};

TEST(CudaDevice, ThereMayBeSeveral) {
  const TwoDevices two;
  ASSERT_EQ(DeviceCount(), 2);
  EXPECT_EQ(PropertiesOf(0).name, "emulator");
  EXPECT_EQ(PropertiesOf(1).name, "another");
  EXPECT_EQ(ErrorOf([] {
              CheckOneKind({{DeviceType::kCuda, 1}, {DeviceType::kCuda, 0}});
            }),
            "device: expected GPUs of one kind, found cuda:0 (emulator) beside cuda:1 (another)");
}

TEST(CudaMemory, IsCountedByDevice) {
  const TwoDevices two;
  const size_t first = cuda_emulator::AllocatedBytes(0);
  const size_t second = cuda_emulator::AllocatedBytes(1);
  cuda_emulator::ResetPeak();
  {
    const Tensor tensor = DeviceTensor({100}, DType::kU8, 1);
    EXPECT_EQ(cuda_emulator::AllocatedBytes(0), first);
    EXPECT_EQ(cuda_emulator::AllocatedBytes(1), second + 100);
  }
  EXPECT_EQ(cuda_emulator::AllocatedBytes(1), second);
  EXPECT_EQ(cuda_emulator::PeakBytes(1), second + 100);
}

struct WriteTask {
  int unused;
  float* to;
};
__global__ void WriteKernel(WriteTask task) { *task.to = 1; }

TEST(CudaMemory, OfOneDeviceIsNotForTheQueuesOfAnother) {
  const TwoDevices two;
  Stream first(0), second(1);
  const Tensor on_first = DeviceTensor({4}, DType::kF32, 0);
  auto* inside = static_cast<float*>(const_cast<void*>(on_first.view().raw())) + 3;
  EXPECT_EQ(ErrorOf([&] { Launch(&WriteKernel, OneBlock(1), first, WriteTask{0, inside}); }), "");
  EXPECT_EQ(ErrorOf([&] {
              Launch(&WriteKernel, OneBlock(1), second, WriteTask{0, inside});
            }),
            "test_kernel: on device 1 with memory of device 0");
  // As another library would give it: the tensor's device is not asked.
  const TensorView lies(inside - 3, DType::kF32, {4}, {DeviceType::kCuda, 1});
  EXPECT_EQ(ErrorOf([&] { Zero(second, lies); }), "zeroing: on device 1 with memory of device 0");
  Tensor host({4}, DType::kF32);
  EXPECT_EQ(ErrorOf([&] { Copy(second, host, lies); }),
            "copying: on device 1 with memory of device 0");
  EXPECT_THAT(ErrorOf([&] { Copy(second, on_first, host); }),
              HasSubstr("expected a tensor on GPU 1, found one on GPU 0"));
}

TEST(CudaMemory, IsCopiedFromDeviceToDeviceByWhoNamesBoth) {
  const TwoDevices two;
  Stream second(1);
  const Tensor on_first = DeviceTensor({4}, DType::kF32, 0);
  Tensor on_second = DeviceTensor({4}, DType::kF32, 1);
  EXPECT_EQ(ErrorOf([&] { CopyFromPeer(second, on_first, on_second); }), "");
  const ConstTensorView lies(on_second.view().raw(), DType::kF32, {4}, {DeviceType::kCuda, 0});
  EXPECT_EQ(ErrorOf([&] { CopyFromPeer(second, lies, on_second); }),
            "copying from a peer: on device 0 with memory of device 1");
}

}  // namespace
}  // namespace tamias::cuda
