// Layer norm, its modulated form and RMS norm: one block per row, y = (x - mean) * rstd * gain +
// offset. The row is read three times (mean; variance about it; output), which keeps the variance
// as exact as the reference's; the second and third time it comes from the L1 cache.
#include "ops/norm.h"

#include "ops/cuda/block_sum.cuh"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

// A factor or a term per column: one vector for all rows, or one per batch item.
struct Coefficients {
  const void* data = nullptr;  // null: none
  DType dtype = DType::kF32;
  int64_t batch_stride = 0;
};

struct NormTask {
  const void* input;
  void* output;
  DType input_type, output_type;
  RowOffsets input_rows, output_rows;
  int64_t rows_per_batch, columns;
  float epsilon;
  bool centred;     // layer norm; otherwise RMS norm
  float gain_bias;  // added to the gain: 1 for a modulation's scale
  Coefficients gain, offset;
};

__device__ Floats8 LoadCoefficients(const Coefficients& coefficients, int64_t batch, int64_t column,
                                    float otherwise) {
  if (coefficients.data == nullptr) {
    Floats8 result;
    for (int i = 0; i < kVector; ++i) result[i] = otherwise;
    return result;
  }
  return Load8(coefficients.data, coefficients.dtype, batch * coefficients.batch_stride + column);
}

__global__ void __launch_bounds__(kThreads) NormKernel(NormTask task) {
  CheckLaunchBounds<kThreads>();
  __shared__ float sums[2][kWarps];
  const int64_t row = blockIdx.x, batch = row / task.rows_per_batch;
  const int64_t input = task.input_rows(row), output = task.output_rows(row);
  const auto width = static_cast<float>(task.columns);
  const int64_t first = static_cast<int64_t>(threadIdx.x) * kVector;
  constexpr int64_t kStep = kThreads * kVector;

  float mean = 0;
  if (task.centred) {
    for (int64_t c = first; c < task.columns; c += kStep) {
      const Floats8 x = Load8(task.input, task.input_type, input + c);
      for (int i = 0; i < kVector; ++i) mean += x[i];
    }
    mean = BlockSum<kWarps>(mean, sums[0]) / width;
  }
  float square = 0;
  for (int64_t c = first; c < task.columns; c += kStep) {
    const Floats8 x = Load8(task.input, task.input_type, input + c);
    for (int i = 0; i < kVector; ++i) square += (x[i] - mean) * (x[i] - mean);
  }
  const float rstd = 1 / sqrtf(BlockSum<kWarps>(square, sums[1]) / width + task.epsilon);
  for (int64_t c = first; c < task.columns; c += kStep) {
    Floats8 x = Load8(task.input, task.input_type, input + c);
    const Floats8 gain = LoadCoefficients(task.gain, batch, c, 1 - task.gain_bias);
    const Floats8 offset = LoadCoefficients(task.offset, batch, c, 0);
    for (int i = 0; i < kVector; ++i) {
      x[i] = (x[i] - mean) * rstd * (task.gain_bias + gain[i]) + offset[i];
    }
    Store8(task.output, task.output_type, output + c, x);
  }
}

void CheckRows(std::string_view operation, const ConstTensorView& input,
               const ConstTensorView& output) {
  CheckVectorRows(operation, "input", input);
  CheckVectorRows(operation, "output", output);
  CheckMultiple(operation, "input: columns", input.dim(-1), kVector);
}

Coefficients CheckedWeight(std::string_view operation, std::string_view argument,
                           const ConstTensorView& view) {
  CheckVectorRows(operation, argument, view);
  return {view.raw(), view.dtype(), 0};
}

NormTask MakeTask(const ConstTensorView& input, float epsilon, const TensorView& output) {
  return {.input = input.raw(),
          .output = output.raw(),
          .input_type = input.dtype(),
          .output_type = output.dtype(),
          .input_rows = RowOffsets(input),
          .output_rows = RowOffsets(output),
          .rows_per_batch = std::max<int64_t>(NumRows(input), 1),
          .columns = input.dim(-1),
          .epsilon = epsilon,
          .centred = true,
          .gain_bias = 0,
          .gain = {},
          .offset = {}};
}

void Run(Stream& stream, const NormTask& task, int64_t rows) {
  if (rows == 0) return;
  Launch(NormKernel, {.name = "norm", .grid = static_cast<unsigned>(rows), .block = kThreads},
         stream, task);
}

}  // namespace

void LayerNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
               float epsilon, TensorView output) {
  CheckRows("layer norm", input, output);
  NormTask task = MakeTask(input, epsilon, output);
  task.gain = CheckedWeight("layer norm", "weight", weight);
  task.offset = CheckedWeight("layer norm", "bias", bias);
  Run(stream, task, NumRows(input));
}

void LayerNormModulate(Stream& stream, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output) {
  constexpr std::string_view kName = "layer norm modulate";
  CheckRows(kName, input, output);
  CheckVectorRows(kName, "shift", shift);
  CheckVectorRows(kName, "scale", scale);
  NormTask task = MakeTask(input, epsilon, output);
  task.rows_per_batch = std::max<int64_t>(input.dim(1), 1);
  task.gain_bias = 1;
  task.gain = {scale.raw(), scale.dtype(), scale.stride(0)};
  task.offset = {shift.raw(), shift.dtype(), shift.stride(0)};
  Run(stream, task, NumRows(input));
}

void RmsNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output) {
  CheckRows("rms norm", input, output);
  NormTask task = MakeTask(input, epsilon, output);
  task.centred = false;
  task.gain = CheckedWeight("rms norm", "weight", weight);
  Run(stream, task, NumRows(input));
}

}  // namespace tamias::cuda
