// Bit-packed masks [R, ceil(N / 8)]: random bits, lists of the set columns, counts, ranges.
#include "ops/mask.h"

#include <algorithm>
#include <cmath>

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/primitives.cuh"
#include "tamias/random.h"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / 32;
// Blocks of a loop over all bytes: enough for every multiprocessor, few enough to start quickly.
constexpr int64_t kMaxBlocks = 8192;

LaunchShape OneThreadPer(const char* name, int64_t items) {
  const int64_t blocks = std::min((items + kThreads - 1) / kThreads, kMaxBlocks);
  return {.name = name, .grid = static_cast<unsigned>(blocks), .block = kThreads};
}

// A thread draws the eight bits of a byte. below: CounterRandom(...) < below sets a bit.
__global__ void __launch_bounds__(kThreads)
    RandomMaskKernel(uint64_t below, uint64_t seed, uint8_t* mask, int64_t rows, int64_t n) {
  CheckLaunchBounds<kThreads>();
  const int64_t row_bytes = MaskBytes(n), bytes = rows * row_bytes;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < bytes;
       i += step) {
    const int64_t row = i / row_bytes, first = i % row_bytes * 8;
    uint32_t bits = 0;
    for (int64_t j = first; j < first + 8 && j < n; ++j) {
      if (CounterRandom(seed, static_cast<uint64_t>(row * n + j)) < below)
        bits |= 1u << (j - first);
    }
    if (bits != 0) mask[i] = static_cast<uint8_t>(mask[i] | bits);
  }
}

// The sum over the lanes up to this one.
__device__ uint32_t SumUpToLane(uint32_t value) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const uint32_t other = __shfl_up_sync(kFullWarp, value, distance);
    if (lane >= distance) value += other;
  }
  return value;
}

// The run of a row's bytes that a warp works on, when one block takes the row, and the bits of the
// row that are set before it and in all. All threads of the block call it; warp_counts is of their
// shared memory.
struct WarpRun {
  int64_t begin, end;
  uint32_t before, total;
};

__device__ WarpRun RunOfWarp(const uint8_t* row, int64_t row_bytes,
                             uint32_t (&warp_counts)[kWarps]) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t warp_bytes = (row_bytes + kWarps - 1) / kWarps;
  const int64_t begin = min(warp * warp_bytes, row_bytes);
  WarpRun run{begin, min(begin + warp_bytes, row_bytes), 0, 0};
  uint32_t own = 0;
  for (int64_t i = run.begin + lane; i < run.end; i += 32) own += __popc(row[i]);
  own = WarpSum<32>(own);
  if (lane == 0) warp_counts[warp] = own;
  __syncthreads();
  for (unsigned w = 0; w < kWarps; ++w) {
    if (w < warp) run.before += warp_counts[w];
    run.total += warp_counts[w];
  }
  return run;
}

// One block per row; each warp lists the columns of a run of bytes, after counting those of the
// warps before it.
__global__ void __launch_bounds__(kThreads)
    MaskToIndicesKernel(const uint8_t* mask, int64_t row_bytes, int32_t* indices,
                        int64_t indices_stride, uint32_t capacity, int32_t* counts,
                        int32_t* overflow) {
  CheckLaunchBounds<kThreads>();
  __shared__ uint32_t warp_counts[kWarps];
  const uint8_t* row = mask + static_cast<int64_t>(blockIdx.x) * row_bytes;
  int32_t* row_indices = indices + static_cast<int64_t>(blockIdx.x) * indices_stride;
  const unsigned lane = threadIdx.x % 32;
  auto [begin, end, before, total] = RunOfWarp(row, row_bytes, warp_counts);
  for (int64_t step = begin; step < end; step += 32) {
    const int64_t i = step + lane;
    uint32_t bits = i < end ? row[i] : 0;
    const uint32_t count = __popc(bits), up_to = SumUpToLane(count);
    for (uint32_t place = before + up_to - count; bits != 0; bits &= bits - 1, ++place) {
      const int32_t column = static_cast<int32_t>(i * 8 + __ffs(static_cast<int>(bits)) - 1);
      if (place < capacity) row_indices[place] = column;
    }
    before += __shfl_sync(kFullWarp, up_to, 31);
  }
  if (threadIdx.x == 0) {
    counts[blockIdx.x] = static_cast<int32_t>(min(total, capacity));
    if (total > capacity && overflow != nullptr) atomicMax(overflow, static_cast<int32_t>(total));
  }
}

// One warp per row.
__global__ void __launch_bounds__(kThreads)
    CountMaskKernel(const uint8_t* mask, int64_t rows, int64_t row_bytes, int32_t* counts) {
  CheckLaunchBounds<kThreads>();
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  uint32_t own = 0;
  for (int64_t i = threadIdx.x % 32; i < row_bytes; i += 32)
    own += __popc(mask[row * row_bytes + i]);
  own = WarpSum<32>(own);
  if (threadIdx.x % 32 == 0) counts[row] = static_cast<int32_t>(own);
}

// One block per row, a run of bytes for each warp, as in MaskToIndicesKernel. The first bits of a
// byte that begins within the limit and ends beyond it are taken lowest first.
__global__ void __launch_bounds__(kThreads)
    OrMaskKernel(const uint8_t* source, int64_t source_rows, int64_t row_bytes, int64_t limit,
                 uint8_t* mask) {
  CheckLaunchBounds<kThreads>();
  __shared__ uint32_t warp_counts[kWarps];
  const uint8_t* from = source + blockIdx.x % source_rows * row_bytes;
  uint8_t* to = mask + static_cast<int64_t>(blockIdx.x) * row_bytes;
  const unsigned lane = threadIdx.x % 32;
  const WarpRun run = RunOfWarp(from, row_bytes, warp_counts);
  int64_t before = run.before;
  for (int64_t step = run.begin; step < run.end; step += 32) {
    const int64_t i = step + lane;
    uint32_t bits = i < run.end ? from[i] : 0;
    const uint32_t count = __popc(bits), up_to = SumUpToLane(count);
    const int64_t left = limit - (before + up_to - count);  // for this byte
    uint32_t taken = 0;
    for (int64_t k = 0; k < left && bits != 0; ++k) {
      taken |= bits & (0u - bits);
      bits &= bits - 1;
    }
    if (taken != 0) to[i] = static_cast<uint8_t>(to[i] | taken);
    before += __shfl_sync(kFullWarp, up_to, 31);
  }
}

// A thread per byte that the columns [begin, end) touch.
__global__ void __launch_bounds__(kThreads)
    SetMaskRangeKernel(uint8_t* row, int64_t begin, int64_t end) {
  CheckLaunchBounds<kThreads>();
  const int64_t byte = begin / 8 + static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (byte * 8 >= end) return;
  uint32_t bits = 0xFFu;
  if (begin > byte * 8) bits &= 0xFFu << (begin - byte * 8);
  if (end < byte * 8 + 8) bits &= 0xFFu >> (byte * 8 + 8 - end);
  row[byte] = static_cast<uint8_t>(row[byte] | bits);
}

}  // namespace

void RandomMask(Stream& stream, double probability, uint64_t seed, TensorView mask, int64_t n) {
  CheckRange("random mask", "n", n, 0, INT32_MAX);
  if (mask.NumElements() == 0) return;
  // A whole number is below p 2^32 just when it is below the next whole number.
  const auto below = static_cast<uint64_t>(std::ceil(probability * 0x1p32));
  Launch(RandomMaskKernel, OneThreadPer("random mask", mask.NumElements()), stream, below, seed,
         mask.data<uint8_t>(), mask.dim(0), n);
}

void MaskToIndices(Stream& stream, ConstTensorView mask, int64_t n, TensorView indices,
                   TensorView counts, TensorView overflow) {
  constexpr std::string_view kName = "mask to indices";
  CheckRange(kName, "n", n, 0, INT32_MAX);
  CheckRange(kName, "indices: capacity", indices.dim(1), 0, INT32_MAX);
  if (mask.dim(0) == 0) return;
  const LaunchShape shape{
      .name = "mask to indices", .grid = static_cast<unsigned>(mask.dim(0)), .block = kThreads};
  Launch(MaskToIndicesKernel, shape, stream, mask.data<uint8_t>(), mask.dim(1),
         indices.data<int32_t>(), indices.stride(0), static_cast<uint32_t>(indices.dim(1)),
         counts.data<int32_t>(), overflow.empty() ? nullptr : overflow.data<int32_t>());
}

void CountMask(Stream& stream, ConstTensorView mask, TensorView counts) {
  const int64_t rows = mask.dim(0);
  if (rows == 0) return;
  const LaunchShape shape{.name = "count mask",
                          .grid = static_cast<unsigned>((rows + kWarps - 1) / kWarps),
                          .block = kThreads};
  Launch(CountMaskKernel, shape, stream, mask.data<uint8_t>(), rows, mask.dim(1),
         counts.data<int32_t>());
}

void OrMask(Stream& stream, ConstTensorView source, int64_t limit, TensorView mask) {
  if (mask.NumElements() == 0) return;
  CheckRange("or mask", "source: rows", source.dim(0), 1, INT32_MAX);
  const LaunchShape shape{
      .name = "or mask", .grid = static_cast<unsigned>(mask.dim(0)), .block = kThreads};
  Launch(OrMaskKernel, shape, stream, source.data<uint8_t>(), source.dim(0), mask.dim(1), limit,
         mask.data<uint8_t>());
}

void SetMaskRange(Stream& stream, TensorView mask, int64_t row, int64_t begin, int64_t end) {
  CheckRange("set mask range", "row", row, 0, mask.dim(0) - 1);
  CheckRange("set mask range", "begin", begin, 0, end);
  CheckRange("set mask range", "end", end, begin, mask.dim(1) * 8);
  if (begin == end) return;
  const int64_t bytes = (end + 7) / 8 - begin / 8;
  const LaunchShape shape{.name = "set mask range",
                          .grid = static_cast<unsigned>((bytes + kThreads - 1) / kThreads),
                          .block = kThreads};
  Launch(SetMaskRangeKernel, shape, stream, mask.data<uint8_t>() + row * mask.dim(1), begin, end);
}

}  // namespace tamias::cuda
