// The k-th largest of n scores by radix select, one block per row. A score becomes an unsigned key
// of the same order; three passes over the keys count their digits (11, 11 and 10 bits, the highest
// first) in shared memory, and each fixes one more digit of the key that is wanted. Nothing is
// sorted or moved, so a "row" is any function from 0 <= i < n to a key: scores in memory, or a
// random sample of them that is drawn anew in each pass.
#pragma once

#include "ops/cuda/primitives.cuh"

namespace tamias::cuda {

constexpr int kSelectThreads = 512;
constexpr int kSelectWarps = kSelectThreads / 32;
constexpr uint32_t kSelectBins = 2048;

struct SelectScratch {
  uint32_t bins[kSelectBins];
  uint32_t warp_sums[kSelectWarps];
  uint32_t digit;         // that of the key wanted
  uint32_t larger;        // keys with a larger digit, in the pass under way
  uint32_t in_digit_bin;  // keys with just this digit
};

// Larger scores have larger keys; -0 equals +0, NaN equals minus infinity.
__device__ inline uint32_t OrderKey(float score) {
  constexpr uint32_t kMinusInfinity = 0x007FFFFFu;
  if (score != score) return kMinusInfinity;
  if (score == 0.0f) return 0x80000000u;
  const uint32_t bits = __float_as_uint(score);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// The sum over the threads before this one, for kSelectThreads threads; all of them call it. Two
// calls in a row need a barrier between them.
__device__ inline uint32_t SumBefore(uint32_t value, uint32_t* warp_sums) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t sum = value;
  for (unsigned distance = 1; distance < 32; distance *= 2) {
    const uint32_t other = __shfl_up_sync(kFullWarp, sum, distance);
    if (lane >= distance) sum += other;
  }
  if (lane == 31) warp_sums[warp] = sum;
  __syncthreads();
  uint32_t before = sum - value;
  for (unsigned w = 0; w < warp; ++w) before += warp_sums[w];
  return before;
}

struct KthKey {
  uint32_t key;
  uint32_t larger;  // keys above it
  uint32_t equal;   // keys equal to it, at least one
};

// Finds the bin that holds the rank-th largest (from 1) of the counted keys.
__device__ inline void FindBin(uint32_t rank, SelectScratch& scratch) {
  constexpr uint32_t kBinsPerThread = kSelectBins / kSelectThreads;
  const uint32_t first = kSelectBins - 1 - threadIdx.x * kBinsPerThread;  // larger digits first
  uint32_t own = 0;
  for (uint32_t i = 0; i < kBinsPerThread; ++i) own += scratch.bins[first - i];
  uint32_t before = SumBefore(own, scratch.warp_sums);
  for (uint32_t i = 0; i < kBinsPerThread; ++i) {
    const uint32_t count = scratch.bins[first - i];
    if (before < rank && rank <= before + count) {
      scratch.digit = first - i;
      scratch.larger = before;
      scratch.in_digit_bin = count;
    }
    before += count;
  }
  __syncthreads();
}

// The rank-th largest of key_at(0), ..., key_at(n - 1), 1 <= rank <= n. All kSelectThreads threads
// of the block call it and get the same answer.
template <typename KeyAt>
__device__ KthKey FindKth(const KeyAt& key_at, uint32_t n, uint32_t rank, SelectScratch& scratch) {
  constexpr uint32_t kBits[] = {11, 11, 10};
  KthKey found{0, 0, 0};
  uint32_t known = 0;  // the bits of found.key that are settled
  uint32_t shift = 32;
  for (const uint32_t bits : kBits) {
    shift -= bits;
    const uint32_t digits = (1u << bits) - 1;
    for (uint32_t i = threadIdx.x; i < kSelectBins; i += kSelectThreads) scratch.bins[i] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n; i += kSelectThreads) {
      const uint32_t key = key_at(i);
      if ((key & known) == found.key) atomicAdd(&scratch.bins[(key >> shift) & digits], 1u);
    }
    __syncthreads();
    FindBin(rank - found.larger, scratch);
    found.key |= scratch.digit << shift;
    found.larger += scratch.larger;
    found.equal = scratch.in_digit_bin;
    known |= digits << shift;
    __syncthreads();
  }
  return found;
}

}  // namespace tamias::cuda
