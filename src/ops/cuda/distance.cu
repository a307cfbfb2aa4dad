// Sums of absolute and squared differences: block p of P adds up rows p, p + P, ..., a thread eight
// elements of every 2048.
#include "ops/distance.h"

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / 32;
constexpr int kSums = 4;

struct DistanceTask {
  const void* a;
  const void* b;
  DType a_type, b_type;
  RowOffsets a_rows, b_rows;
  int64_t rows, columns;
  float* partial_sums;
};

__global__ void __launch_bounds__(kThreads) DistanceKernel(DistanceTask task) {
  CheckLaunchBounds<kThreads>();
  __shared__ float warp_sums[kSums][kWarps];
  float sums[kSums] = {};
  for (int64_t row = blockIdx.x; row < task.rows; row += gridDim.x) {
    const int64_t a_row = task.a_rows(row), b_row = task.b_rows(row);
    for (int64_t c = threadIdx.x * kVector; c < task.columns; c += kThreads * kVector) {
      const Floats8 a = Load8(task.a, task.a_type, a_row + c);
      const Floats8 b = Load8(task.b, task.b_type, b_row + c);
      for (int i = 0; i < kVector; ++i) {
        const float difference = a[i] - b[i];
        sums[0] += fabsf(difference);
        sums[1] += fabsf(b[i]);
        sums[2] += difference * difference;
        sums[3] += b[i] * b[i];
      }
    }
  }
  for (int k = 0; k < kSums; ++k) {
    const float sum = WarpSum<32>(sums[k]);
    if (threadIdx.x % 32 == 0) warp_sums[k][threadIdx.x / 32] = sum;
  }
  __syncthreads();
  if (threadIdx.x >= kSums) return;
  float total = 0;
  for (unsigned w = 0; w < kWarps; ++w) total += warp_sums[threadIdx.x][w];
  task.partial_sums[blockIdx.x * kSums + threadIdx.x] = total;
}

}  // namespace

void MeasureDistance(Stream& stream, ConstTensorView a, ConstTensorView b,
                     TensorView partial_sums) {
  constexpr std::string_view kName = "distance";
  CheckVectorRows(kName, "a", a);
  CheckVectorRows(kName, "b", b);
  CheckMultiple(kName, "a: columns", a.dim(-1), kVector);
  const DistanceTask task{.a = a.raw(),
                          .b = b.raw(),
                          .a_type = a.dtype(),
                          .b_type = b.dtype(),
                          .a_rows = RowOffsets(a),
                          .b_rows = RowOffsets(b),
                          .rows = NumRows(a),
                          .columns = a.dim(-1),
                          .partial_sums = partial_sums.data<float>()};
  Launch(
      DistanceKernel,
      {.name = "distance", .grid = static_cast<unsigned>(partial_sums.dim(0)), .block = kThreads},
      stream, task);
}

}  // namespace tamias::cuda
