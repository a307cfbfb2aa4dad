// Column-sparse attention on a GPU, and the order in which its groups start: see
// ops/column_sparse_attention.h; the kernel is in attention_kernel.cuh, that of compute capability
// 9.0 in attention_kernel_sm90a.cuh.
#include "ops/column_sparse_attention.h"

#include "ops/cuda/attention_launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/sm90a.h"

namespace tamias::cuda {
namespace {

constexpr const char* kOperation = "column-sparse attention";

template <typename T>
void RunSparse(Stream& stream, const AttentionInputs& inputs, const ColumnSelection& selection,
               const SparseAttentionEpilogue& epilogue, const TensorView& output,
               const TensorView& log_sum_exp, const ConstTensorView& order) {
  const ConstTensorView& query = inputs.query;
  AttentionArguments<T> arguments =
      SparseArgumentsOf<T>(inputs, selection, epilogue, output, log_sum_exp);
  const int32_t tile_rows = TileRowsFor(RowsOfGroups(inputs, selection));
  arguments.schedule = ScheduleOf(inputs, selection, tile_rows, order);
  const AttentionLaunch<AttentionKeys::kListed, AttentionByProduct::kNone> launch{
      kOperation, stream, query.dim(0) * query.dim(1), inputs.causal};
  launch.Run(arguments, query.dim(3));
}

// ---- the order: a counting sort by tiles of 64 columns, longest first, in one block -------------
constexpr int kSortThreads = 256;
constexpr int kBins = 2048;  // lists of 131,072 columns and more share the first bin

__device__ __forceinline__ int BinOf(int32_t count) {
  return kBins - 1 - min(kBins - 1, (count + 63) / 64);
}

// Every bin begins behind the earlier ones; the items are then placed a block of threads at a time,
// each behind its equals of lower number, so that equal ones keep their order.
__global__ void __launch_bounds__(kSortThreads)
    LongestFirstKernel(const int32_t* counts, int32_t items, int32_t* order) {
  CheckLaunchBounds<kSortThreads>();
  __shared__ int32_t places[kBins];  // where the next item of a bin goes
  __shared__ int32_t bins[kSortThreads];
  const int thread = static_cast<int>(threadIdx.x);
  for (int bin = thread; bin < kBins; bin += kSortThreads) places[bin] = 0;
  __syncthreads();
  for (int i = thread; i < items; i += kSortThreads) atomicAdd(&places[BinOf(counts[i])], 1);
  __syncthreads();
  if (thread == 0) {
    int32_t place = 0;
    for (int bin = 0; bin < kBins; ++bin) {
      const int32_t size = places[bin];
      places[bin] = place;
      place += size;
    }
  }
  for (int begin = 0; begin < items; begin += kSortThreads) {
    const int i = begin + thread;
    const int bin = i < items ? BinOf(counts[i]) : -1;
    bins[thread] = bin;
    __syncthreads();
    int equals = 0;
    for (int other = 0; other < thread; ++other) equals += bins[other] == bin ? 1 : 0;
    if (i < items) order[places[bin] + equals] = i;
    __syncthreads();
    if (i < items) atomicAdd(&places[bin], 1);
  }
}

}  // namespace

void ColumnSparseAttention(Stream& stream, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp, ConstTensorView order) {
  CheckAttentionKernel(kOperation, inputs, output);
  if (!epilogue.base.empty()) CheckRows(kOperation, "base", epilogue.base);
  if (inputs.query.NumElements() == 0) return;
  if (TakesWarpgroups(stream, inputs, RowsOfGroups(inputs, selection))) {
    sm90a::ColumnSparseAttention(stream, inputs, selection, epilogue, output, log_sum_exp, order);
  } else if (inputs.query.dtype() == DType::kBF16) {
    RunSparse<BFloat16>(stream, inputs, selection, epilogue, output, log_sum_exp, order);
  } else {
    RunSparse<Float16>(stream, inputs, selection, epilogue, output, log_sum_exp, order);
  }
}

void LongestFirstOrder(Stream& stream, ConstTensorView counts, TensorView order) {
  if (counts.NumElements() == 0) return;
  Launch(&LongestFirstKernel,
         LaunchShape{.name = "longest-first order", .grid = 1, .block = kSortThreads}, stream,
         counts.data<int32_t>(), static_cast<int32_t>(counts.NumElements()), order.data<int32_t>());
}

}  // namespace tamias::cuda
