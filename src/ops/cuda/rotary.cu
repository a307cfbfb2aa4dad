// RMS norm of each head and rotary embedding of adjacent pairs, fused with the change of layout:
// a lane holds eight elements of a head's vector, D / 8 lanes (rounded up to a power of two) hold
// one vector, so a warp works on 2 (D = 128) or 4 (D = 64) vectors at once and the sum of squares
// needs shuffles only.
#include "ops/rotary.h"

#include <bit>

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMaxHeadDim = 32 * kVector;

struct RotaryTask {
  const void* input;
  void* output;
  DType input_type, output_type;
  RowOffsets input_rows, output_rows;  // of (b, h, n)
  int64_t rows, heads, tokens, head_dim;
  unsigned lanes;           // that hold one vector, a power of two
  const void* norm_weight;  // null: no norm
  DType weight_type;
  float epsilon;
  const void* cosine;  // null: no rotation
  const void* sine;
  DType angle_type;
  int64_t cosine_head_stride, cosine_stride, sine_head_stride, sine_stride;
};

__device__ void Normalise(const RotaryTask& task, int64_t column, Floats8& x) {
  float square = 0;
  for (int i = 0; i < kVector; ++i) square += x[i] * x[i];
  for (unsigned distance = task.lanes / 2; distance > 0; distance /= 2) {
    square += __shfl_xor_sync(kFullWarp, square, static_cast<int>(distance));
  }
  const float rstd = 1 / sqrtf(square / static_cast<float>(task.head_dim) + task.epsilon);
  if (column >= task.head_dim) return;
  const Floats8 weight = Load8(task.norm_weight, task.weight_type, column);
  for (int i = 0; i < kVector; ++i) x[i] *= weight[i] * rstd;
}

__device__ void Rotate(const RotaryTask& task, int64_t row, int64_t column, Floats8& x) {
  const int64_t token = row % task.tokens, head = row / task.tokens % task.heads;
  const Floats8 cosine =
      Load8(task.cosine, task.angle_type,
            head * task.cosine_head_stride + token * task.cosine_stride + column);
  const Floats8 sine = Load8(task.sine, task.angle_type,
                             head * task.sine_head_stride + token * task.sine_stride + column);
  for (int i = 0; i < kVector; i += 2) {
    const float even = x[i], odd = x[i + 1];
    x[i] = even * cosine[i] - odd * sine[i];
    x[i + 1] = odd * cosine[i + 1] + even * sine[i + 1];
  }
}

__global__ void __launch_bounds__(kThreads) RmsNormRotaryKernel(RotaryTask task) {
  CheckLaunchBounds<kThreads>();
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t row = thread / task.lanes, column = thread % task.lanes * kVector;
  const bool inside = row < task.rows && column < task.head_dim;
  Floats8 x{};
  if (inside) x = Load8(task.input, task.input_type, task.input_rows(row) + column);
  if (task.norm_weight != nullptr) Normalise(task, column, x);  // all lanes: it shuffles
  if (!inside) return;
  if (task.cosine != nullptr) Rotate(task, row, column, x);
  Store8(task.output, task.output_type, task.output_rows(row) + column, x);
}

constexpr std::string_view kName = "rms norm rotary";

void SetAngles(const ConstTensorView& cosine, const ConstTensorView& sine, RotaryTask& task) {
  CheckVectorRows(kName, "cosine", cosine);
  CheckVectorRows(kName, "sine", sine);
  task.cosine = cosine.raw();
  task.sine = sine.raw();
  task.angle_type = cosine.dtype();
  task.cosine_stride = cosine.stride(-2);
  task.sine_stride = sine.stride(-2);
  if (cosine.rank() == 3) {
    task.cosine_head_stride = cosine.stride(0);
    task.sine_head_stride = sine.stride(0);
  }
}

}  // namespace

void RmsNormRotary(Stream& stream, ConstTensorView input, ConstTensorView norm_weight,
                   float epsilon, ConstTensorView cosine, ConstTensorView sine, TensorView output) {
  CheckVectorRows(kName, "input", input);
  CheckVectorRows(kName, "output", output);
  CheckMultiple(kName, "input: head dimension", input.dim(3), kVector);
  CheckRange(kName, "input: head dimension", input.dim(3), 0, kMaxHeadDim);
  RotaryTask task{};
  task.input = input.raw();
  task.output = output.raw();
  task.input_type = input.dtype();
  task.output_type = output.dtype();
  task.input_rows = RowOffsets(input);
  task.output_rows = RowOffsets(output);
  task.rows = NumRows(input);
  task.heads = input.dim(1);
  task.tokens = input.dim(2);
  task.head_dim = input.dim(3);
  task.epsilon = epsilon;
  if (!norm_weight.empty()) {
    CheckVectorRows(kName, "norm_weight", norm_weight);
    task.norm_weight = norm_weight.raw();
    task.weight_type = norm_weight.dtype();
  }
  if (!cosine.empty()) SetAngles(cosine, sine, task);
  if (task.rows == 0) return;
  task.lanes = static_cast<unsigned>(std::bit_ceil(static_cast<uint64_t>(task.head_dim / kVector)));
  const int64_t threads = task.rows * task.lanes;
  const LaunchShape shape{.name = "rms norm rotary",
                          .grid = static_cast<unsigned>((threads + kThreads - 1) / kThreads),
                          .block = kThreads};
  Launch(RmsNormRotaryKernel, shape, stream, task);
}

}  // namespace tamias::cuda
