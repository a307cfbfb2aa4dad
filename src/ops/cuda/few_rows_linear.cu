// The dense layer over a few rows (modulations, timestep embeddings), which costs the reading of
// its weights: a warp per output feature, 256 of its weights at a time. Operands keep their types,
// so that nothing is converted before or after. Scales of rows are powers of two: multiplying the
// sums with them is multiplying the weights.
#include "ops/linear.h"

#include "ops/cuda/activation.cuh"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/float8.cuh"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 128;
constexpr unsigned kWarps = kThreads / 32;

struct FewRowsTask {
  const void* input;
  const void* weight;
  const float* weight_scales;  // null: none, the weights are not of 8 bits
  const void* bias;            // null: none
  void* output;
  DType input_type, weight_type, bias_type, output_type;
  RowOffsets input_rows, output_rows;
  int64_t rows, inputs, outputs, weight_stride;
  Activation activation;
  bool accumulates;
};

__global__ void __launch_bounds__(kThreads) FewRowsKernel(FewRowsTask task) {
  CheckLaunchBounds<kThreads>();
  const unsigned lane = threadIdx.x % 32;
  const int64_t feature = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (feature >= task.outputs) return;  // the whole warp
  int64_t rows[kFewRows];
#pragma unroll
  for (int r = 0; r < kFewRows; ++r) rows[r] = r < task.rows ? task.input_rows(r) : 0;
  float sums[kFewRows] = {};
#pragma unroll 4
  for (int64_t k = lane * kVector; k < task.inputs; k += 32 * kVector) {
    const int64_t place = feature * task.weight_stride + k;
    const Floats8 weight = task.weight_type == DType::kF8E4M3
                               ? LoadFloat8s(task.weight, place)
                               : Load8(task.weight, task.weight_type, place);
#pragma unroll
    for (int r = 0; r < kFewRows; ++r) {
      if (r >= task.rows) break;
      const Floats8 input = Load8(task.input, task.input_type, rows[r] + k);
      for (int i = 0; i < kVector; ++i) sums[r] += weight[i] * input[i];
    }
  }
#pragma unroll
  for (int r = 0; r < kFewRows; ++r) sums[r] = WarpSum<32>(sums[r]);
  if (lane >= task.rows) return;
  float value = 0;  // of row `lane`
#pragma unroll
  for (int r = 0; r < kFewRows; ++r) {
    if (static_cast<int>(lane) == r) value = sums[r];
  }
  if (task.weight_scales != nullptr) value *= kFloat8Unit * task.weight_scales[feature];
  if (task.bias != nullptr) value += LoadOne(task.bias, task.bias_type, feature);
  value = ActivateScalar(task.activation, value);
  const int64_t place = task.output_rows(lane) + feature;
  if (task.accumulates) value += LoadOne(task.output, task.output_type, place);
  StoreOne(task.output, task.output_type, place, value);
}

}  // namespace

void FewRowsLinear(Stream& stream, ConstTensorView input, ConstTensorView weight,
                   ConstTensorView bias, TensorView output, LinearOptions options) {
  constexpr std::string_view kName = "linear";
  CheckVectorRows(kName, "input", input);
  CheckVectorRows(kName, "weight", weight);
  if (output.NumElements() == 0) return;
  const FewRowsTask task{.input = input.raw(),
                         .weight = weight.raw(),
                         .weight_scales = weight.row_scales(),
                         .bias = bias.raw(),
                         .output = output.raw(),
                         .input_type = input.dtype(),
                         .weight_type = weight.dtype(),
                         .bias_type = bias.dtype(),
                         .output_type = output.dtype(),
                         .input_rows = RowOffsets(input),
                         .output_rows = RowOffsets(output),
                         .rows = NumRows(input),
                         .inputs = input.dim(-1),
                         .outputs = weight.dim(0),
                         .weight_stride = weight.stride(0),
                         .activation = options.activation,
                         .accumulates = options.accumulate};
  Launch(FewRowsKernel,
         {.name = "linear of few rows",
          .grid = static_cast<unsigned>((task.outputs + kWarps - 1) / kWarps),
          .block = kThreads},
         stream, task);
}

}  // namespace tamias::cuda
