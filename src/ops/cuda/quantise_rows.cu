// The conversion to 8-bit floats: a warp per row, 256 elements of it at a time, once for the scale
// and once, from the cache, for the codes.
#include "ops/quantise_rows.h"

#include "base/float8_row.h"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarps = kThreads / 32;

struct QuantiseTask {
  const void* input;
  DType type;
  int64_t batch_stride, stride;  // of the input
  uint2* codes;                  // eight each
  float* scales;
  int64_t tokens, rows, width;  // rows over all batch items
};

__device__ uint32_t FourCodes(const Floats8& values, int first, float inverse) {
  uint32_t codes = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    codes |= uint32_t{ToFloat8E4M3(values[first + i] * inverse).bits} << (8 * i);
  }
  return codes;
}

__global__ void __launch_bounds__(kThreads) QuantiseRowsKernel(QuantiseTask task) {
  CheckLaunchBounds<kThreads>();
  const unsigned lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= task.rows) return;
  const int64_t from = row / task.tokens * task.batch_stride + row % task.tokens * task.stride;
  uint32_t largest = 0;
#pragma unroll 4
  for (int64_t k = lane * kVector; k < task.width; k += 32 * kVector) {
    const Floats8 values = Load8(task.input, task.type, from + k);
#pragma unroll
    for (int i = 0; i < kVector; ++i) largest = max(largest, MagnitudeBits(values[i]));
  }
  largest = WarpMax<32>(largest);
  const bool is_finite = IsFiniteMagnitude(largest);
  const int exponent = Float8ScaleExponent(largest);
  const float inverse = PowerOfTwo(-exponent);
  uint2* codes = task.codes + row * (task.width / kVector);
#pragma unroll 4
  for (int64_t k = lane * kVector; k < task.width; k += 32 * kVector) {
    const Floats8 values = Load8(task.input, task.type, from + k);
    codes[k / kVector] =
        is_finite ? make_uint2(FourCodes(values, 0, inverse), FourCodes(values, 4, inverse))
                  : make_uint2(0, 0);
  }
  if (lane == 0) task.scales[row] = is_finite ? PowerOfTwo(exponent) : __uint_as_float(0x7FC00000u);
}

}  // namespace

void QuantiseRows(Stream& stream, ConstTensorView input, TensorView codes, TensorView scales) {
  constexpr std::string_view kName = "quantise rows";
  CheckVectorRows(kName, "input", input);
  CheckVectorRows(kName, "codes", codes.Reshape({codes.NumElements()}));
  CheckMultiple(kName, "width", input.dim(2), kVector);
  const QuantiseTask task{.input = input.raw(),
                          .type = input.dtype(),
                          .batch_stride = input.stride(0),
                          .stride = input.stride(1),
                          .codes = static_cast<uint2*>(codes.raw()),
                          .scales = scales.data<float>(),
                          .tokens = input.dim(1),
                          .rows = input.dim(0) * input.dim(1),
                          .width = input.dim(2)};
  CheckRange(kName, "rows", task.rows, 0, INT32_MAX);
  if (task.rows == 0) return;
  Launch(QuantiseRowsKernel,
         {.name = "quantise rows",
          .grid = static_cast<unsigned>((task.rows + kWarps - 1) / kWarps),
          .block = kThreads},
         stream, task);
}

}  // namespace tamias::cuda
