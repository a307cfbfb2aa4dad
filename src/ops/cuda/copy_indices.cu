// Copy of the chosen columns of each row: destination[r, i] = source[r, i], i = indices[r, j], for
// j < counts[r]. A block takes 1024 entries of one row's list.
#include "ops/copy_indices.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kEntriesPerBlock = 1024;

struct CopyTask {
  const void* source;  // [R, n]
  void* destination;
  int64_t source_stride, destination_stride, n;
  const int32_t* indices;  // [R, capacity]
  int64_t indices_stride, capacity;
  const int32_t* counts;    // [R]
  unsigned blocks_per_row;  // blocks of one row follow each other
};

// Bits: the unsigned integer as wide as an element.
template <typename Bits>
__global__ void __launch_bounds__(kThreads) CopyIndicesKernel(CopyTask task) {
  CheckLaunchBounds<kThreads>();
  const int64_t row = blockIdx.x / task.blocks_per_row;
  const int64_t begin = blockIdx.x % task.blocks_per_row * kEntriesPerBlock;
  const int64_t count = min(static_cast<int64_t>(task.counts[row]), task.capacity);
  const int64_t end = min(begin + kEntriesPerBlock, count);
  const Bits* source = static_cast<const Bits*>(task.source) + row * task.source_stride;
  Bits* destination = static_cast<Bits*>(task.destination) + row * task.destination_stride;
  for (int64_t j = begin + threadIdx.x; j < end; j += kThreads) {
    const int64_t i = task.indices[row * task.indices_stride + j];
    if (i >= 0 && i < task.n) destination[i] = source[i];
  }
}

}  // namespace

void CopyIndices(Stream& stream, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination) {
  const int64_t blocks_per_row = (indices.dim(1) + kEntriesPerBlock - 1) / kEntriesPerBlock;
  const int64_t blocks = source.dim(0) * blocks_per_row;
  if (blocks == 0) return;
  const CopyTask task{source.raw(),           destination.raw(),
                      source.stride(0),       destination.stride(0),
                      source.dim(1),          indices.data<int32_t>(),
                      indices.stride(0),      indices.dim(1),
                      counts.data<int32_t>(), static_cast<unsigned>(blocks_per_row)};
  const LaunchShape shape{
      .name = "copy indices", .grid = static_cast<unsigned>(blocks), .block = kThreads};
  if (source.dtype() == DType::kF32) {
    Launch(CopyIndicesKernel<uint32_t>, shape, stream, task);
  } else {
    Launch(CopyIndicesKernel<uint16_t>, shape, stream, task);
  }
}

}  // namespace tamias::cuda
