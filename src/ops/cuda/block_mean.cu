// Means over groups of consecutive tokens: output[b, g, :] = mean of input[b, i, :] over the tokens
// i of group g. A block takes 256 columns of one group: each of its warps adds up every eighth
// token, a lane eight columns; shared memory brings the warps together.
#include "ops/block_mean.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kColumns = 32 * kVector;

struct BlockMeanTask {
  const void* input;  // [B, N, d]
  void* output;       // [B, G, d]
  DType input_type, output_type;
  int64_t input_batch_stride, input_stride, output_batch_stride, output_stride;
  int64_t tokens, columns, group_size;
};

__global__ void __launch_bounds__(kThreads) BlockMeanKernel(BlockMeanTask task) {
  CheckLaunchBounds<kThreads>();
  __shared__ float sums[kWarps][kColumns];
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const int64_t group = blockIdx.y, batch = blockIdx.z;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kColumns + lane * kVector;
  const int64_t begin = group * task.group_size;
  const int64_t end = min(begin + task.group_size, task.tokens);
  Floats8 sum{};
  if (column < task.columns) {
    for (int64_t i = begin + warp; i < end; i += kWarps) {
      const Floats8 x = Load8(task.input, task.input_type,
                              batch * task.input_batch_stride + i * task.input_stride + column);
      for (int k = 0; k < kVector; ++k) sum[k] += x[k];
    }
  }
  for (int k = 0; k < kVector; ++k) sums[warp][lane * kVector + k] = sum[k];
  __syncthreads();
  if (warp != 0 || column >= task.columns) return;
  Floats8 mean;
  for (int k = 0; k < kVector; ++k) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += sums[w][lane * kVector + k];
    mean[k] = total / static_cast<float>(end - begin);
  }
  Store8(task.output, task.output_type,
         batch * task.output_batch_stride + group * task.output_stride + column, mean);
}

}  // namespace

void BlockMean(Stream& stream, ConstTensorView input, int64_t group_size, TensorView output) {
  constexpr std::string_view kName = "block mean";
  constexpr int64_t kMaxGrid = 65535;  // along y and z
  CheckRange(kName, "group_size", group_size, 1, INT32_MAX);
  const int64_t groups = output.dim(1);
  CheckVectorRows(kName, "input", input);
  CheckVectorRows(kName, "output", output);
  CheckMultiple(kName, "input: columns", input.dim(2), kVector);
  CheckRange(kName, "input: groups", groups, 0, kMaxGrid);
  CheckRange(kName, "input: batch", input.dim(0), 0, kMaxGrid);
  if (output.NumElements() == 0) return;
  const BlockMeanTask task{input.raw(),     output.raw(),    input.dtype(),    output.dtype(),
                           input.stride(0), input.stride(1), output.stride(0), output.stride(1),
                           input.dim(1),    input.dim(2),    group_size};
  const dim3 grid(static_cast<unsigned>((input.dim(2) + kColumns - 1) / kColumns),
                  static_cast<unsigned>(groups), static_cast<unsigned>(input.dim(0)));
  Launch(BlockMeanKernel, {.name = "block mean", .grid = grid, .block = kThreads}, stream, task);
}

}  // namespace tamias::cuda
