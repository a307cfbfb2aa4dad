// Selection of the largest of N scores of each row, as bits of a mask [R, ceil(N / 8)]: one block
// per row. The threshold is the k-th largest score (exact) or a quantile of a sample (approximate),
// found by radix select; one more pass compares all scores and writes the bits. Every choice is a
// comparison of whole keys and the sample is drawn by counter, so the bits are those of the
// reference, whatever the order in which threads run.
#include "ops/top_k.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/primitives.cuh"
#include "ops/cuda/radix_select.cuh"
#include "ops/mask.h"
#include "tamias/random.h"

namespace tamias::cuda {
namespace {

struct TopKTask {
  const float* scores;  // [R, n]
  int64_t row_stride;
  uint32_t n;
  uint32_t k;  // 1 to n
  uint8_t* mask;
  int64_t mask_bytes;    // of a row
  uint64_t sample_size;  // approximate: scores drawn per row
  uint32_t sample_rank;  // approximate: which of them is the threshold
  uint64_t seed;
};

// The columns of one warp: whole words of 32 columns, so that no two warps share a byte of the
// mask. Warps follow each other in the order of columns.
struct WarpColumns {
  uint32_t begin, end;
};

__device__ WarpColumns ColumnsOfWarp(uint32_t n) {
  const uint32_t words = (n + 31) / 32;
  const uint32_t words_per_warp = (words + kSelectWarps - 1) / kSelectWarps;
  const uint32_t begin = threadIdx.x / 32 * words_per_warp * 32;
  return {min(begin, n), min(begin + words_per_warp * 32, n)};
}

// How many keys of the warps before this one equal `key`.
template <typename KeyAt>
__device__ uint32_t EqualBefore(const KeyAt& key_at, uint32_t n, uint32_t key,
                                SelectScratch& scratch) {
  const WarpColumns columns = ColumnsOfWarp(n);
  uint32_t own = 0;
  for (uint32_t j = columns.begin + threadIdx.x % 32; j < columns.end; j += 32) {
    own += key_at(j) == key ? 1 : 0;
  }
  const uint32_t before = SumBefore(own, scratch.warp_sums);
  return __shfl_sync(kFullWarp, before, 0);
}

// Sets the bits of the keys above `key`, and of the first of those equal to it: as many as are left
// of `equal_wanted` after the `equal_before` that lie in front of this warp's columns.
template <typename KeyAt>
__device__ void SetBits(const KeyAt& key_at, uint32_t n, uint32_t key, uint32_t equal_before,
                        uint32_t equal_wanted, uint8_t* mask) {
  const WarpColumns columns = ColumnsOfWarp(n);
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t word = columns.begin; word < columns.end; word += 32) {
    const bool inside = word + lane < columns.end;
    const uint32_t own = inside ? key_at(word + lane) : 0;
    const bool is_equal = inside && own == key;
    const uint32_t equal = __ballot_sync(kFullWarp, is_equal);
    const uint32_t rank = equal_before + __popc(equal & ((1u << lane) - 1));
    const bool chosen = inside && (own > key || (is_equal && rank < equal_wanted));
    const uint32_t bits = __ballot_sync(kFullWarp, chosen);
    equal_before += __popc(equal);
    const uint32_t byte = (bits >> (8 * (lane % 4))) & 0xFFu;
    if (lane < 4 && byte != 0) {
      uint8_t& target = mask[word / 8 + lane];
      target = static_cast<uint8_t>(target | byte);
    }
  }
}

__global__ void __launch_bounds__(kSelectThreads) TopKKernel(TopKTask task) {
  CheckLaunchBounds<kSelectThreads>();
  __shared__ SelectScratch scratch;
  const float* scores = task.scores + static_cast<int64_t>(blockIdx.x) * task.row_stride;
  const auto key_at = [=](uint32_t j) { return OrderKey(scores[j]); };
  const KthKey kth = FindKth(key_at, task.n, task.k, scratch);
  const uint32_t wanted = task.k - kth.larger;
  // Mostly all equal keys are wanted, and which of them come first does not matter.
  const uint32_t before = wanted < kth.equal ? EqualBefore(key_at, task.n, kth.key, scratch) : 0;
  SetBits(key_at, task.n, kth.key, before, wanted < kth.equal ? wanted : task.n,
          task.mask + static_cast<int64_t>(blockIdx.x) * task.mask_bytes);
}

__global__ void __launch_bounds__(kSelectThreads) ApproximateTopKKernel(TopKTask task) {
  CheckLaunchBounds<kSelectThreads>();
  __shared__ SelectScratch scratch;
  const float* scores = task.scores + static_cast<int64_t>(blockIdx.x) * task.row_stride;
  const uint64_t first = blockIdx.x * task.sample_size, n = task.n, seed = task.seed;
  const auto sample_at = [=](uint32_t i) {
    return OrderKey(scores[(CounterRandom(seed, first + i) * n) >> 32]);
  };
  const KthKey threshold =
      FindKth(sample_at, static_cast<uint32_t>(task.sample_size), task.sample_rank, scratch);
  const auto key_at = [=](uint32_t j) { return OrderKey(scores[j]); };
  SetBits(key_at, task.n, threshold.key, 0, task.n,
          task.mask + static_cast<int64_t>(blockIdx.x) * task.mask_bytes);
}

TopKTask MakeTask(const ConstTensorView& scores, int64_t k, const TensorView& mask) {
  TopKTask task{};
  task.scores = scores.data<float>();
  task.row_stride = scores.stride(0);
  task.n = static_cast<uint32_t>(scores.dim(1));
  task.k = static_cast<uint32_t>(std::min(k, scores.dim(1)));
  task.mask = mask.data<uint8_t>();
  task.mask_bytes = mask.dim(1);
  return task;
}

LaunchShape OneBlockPerRow(const char* name, int64_t rows) {
  return {.name = name, .grid = static_cast<unsigned>(rows), .block = kSelectThreads};
}

}  // namespace

void TopKMask(Stream& stream, ConstTensorView scores, int64_t k, TensorView mask) {
  CheckRange("top-k", "scores: columns", scores.dim(1), 0, INT32_MAX);
  if (k == 0 || scores.NumElements() == 0) return;
  Launch(TopKKernel, OneBlockPerRow("top-k", scores.dim(0)), stream, MakeTask(scores, k, mask));
}

void ApproximateTopKMask(Stream& stream, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask) {
  CheckRange("approximate top-k", "scores: columns", scores.dim(1), 0, INT32_MAX);
  CheckRange("approximate top-k", "sample_size", sample_size, 1, INT32_MAX);
  const int64_t n = scores.dim(1);
  if (k == 0 || scores.NumElements() == 0) return;
  if (n <= sample_size || k >= n) return TopKMask(stream, scores, k, mask);
  TopKTask task = MakeTask(scores, k, mask);
  task.sample_size = static_cast<uint64_t>(sample_size);
  task.sample_rank = static_cast<uint32_t>(ApproximateTopKRank(k, n, sample_size));
  task.seed = seed;
  Launch(ApproximateTopKKernel, OneBlockPerRow("approximate top-k", scores.dim(0)), stream, task);
}

}  // namespace tamias::cuda
