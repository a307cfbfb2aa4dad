// RMS norm of each head and rotary embedding of adjacent pairs, fused with the change of layout, of
// several tensors at once (y of the grid). A lane holds eight elements of a head's vector, D / 8
// lanes (rounded up to a power of two) hold one vector, so a warp works on 2 (D = 128) or 4 (D =
// 64) vectors at once and the sum of squares needs shuffles only. The same lanes take several heads
// of a token: their loads are in flight together, and angles that the heads share are read once.
#include "ops/rotary.h"

#include <algorithm>
#include <bit>

#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/vector.cuh"

namespace tamias::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kMaxHeadDim = 32 * kVector;
constexpr unsigned kHeads = 4;  // of a token, that the same lanes take
constexpr size_t kMaxParts = 8;

struct HeadStrides {
  int64_t batch, head, token;
};

struct RotaryPart {
  const void* input;
  void* output;
  const void* norm_weight;  // null: no norm
  const void* cosine;       // null: no rotation
  const void* sine;
  DType input_type, output_type, weight_type, angle_type;
  HeadStrides input_strides, output_strides, cosine_strides, sine_strides;
  unsigned items;   // runs of heads of one token, over all tokens
  unsigned tokens;  // of a batch item
  unsigned heads, runs;
};

struct RotaryTask {
  RotaryPart parts[kMaxParts];
  unsigned lanes;  // that hold one vector, a power of two
  unsigned head_dim;
  float epsilon;
};

struct Angles {
  Floats8 cosine, sine;
};

__device__ Angles LoadAngles(const RotaryPart& part, int64_t head, int64_t token, int64_t column) {
  const HeadStrides &c = part.cosine_strides, &s = part.sine_strides;
  return {Load8(part.cosine, part.angle_type, head * c.head + token * c.token + column),
          Load8(part.sine, part.angle_type, head * s.head + token * s.token + column)};
}

// In all lanes of a warp: it shuffles.
__device__ float InverseRms(const RotaryTask& task, const Floats8& x) {
  float square = 0;
  for (int i = 0; i < kVector; ++i) square += x[i] * x[i];
  for (unsigned distance = task.lanes / 2; distance > 0; distance /= 2) {
    square += __shfl_xor_sync(kFullWarp, square, static_cast<int>(distance));
  }
  return 1 / sqrtf(square / static_cast<float>(task.head_dim) + task.epsilon);
}

__device__ void Rotate(const Angles& angles, Floats8& x) {
  for (int i = 0; i < kVector; i += 2) {
    const float even = x[i], odd = x[i + 1];
    x[i] = even * angles.cosine[i] - odd * angles.sine[i];
    x[i + 1] = odd * angles.cosine[i + 1] + even * angles.sine[i + 1];
  }
}

__global__ void __launch_bounds__(kThreads)
    RmsNormRotaryKernel(const __grid_constant__ RotaryTask task) {
  CheckLaunchBounds<kThreads>();
  const RotaryPart& part = task.parts[blockIdx.y];
  const unsigned first = blockIdx.x * (kThreads / task.lanes);
  if (first >= part.items) return;  // the whole block
  const unsigned item = first + threadIdx.x / task.lanes;
  const unsigned column = threadIdx.x % task.lanes * kVector;
  const bool inside = item < part.items && column < task.head_dim;
  const unsigned run = item % part.runs, row = item / part.runs;
  const int64_t token = row % part.tokens, batch = row / part.tokens;
  const int64_t from = batch * part.input_strides.batch + token * part.input_strides.token + column;
  const int64_t to = batch * part.output_strides.batch + token * part.output_strides.token + column;
  // Head j of a run is run + j runs, so that lanes side by side read heads side by side.
  Floats8 x[kHeads];
#pragma unroll
  for (unsigned j = 0; j < kHeads; ++j) {
    const unsigned head = run + j * part.runs;
    x[j] = inside && head < part.heads
               ? Load8(part.input, part.input_type, from + head * part.input_strides.head)
               : Floats8{};
  }
  const bool rotates = part.cosine != nullptr;
  const bool shares_angles = part.cosine_strides.head == 0 && part.sine_strides.head == 0;
  Angles angles{};
  if (inside && rotates && shares_angles) angles = LoadAngles(part, 0, token, column);
  Floats8 weight{};
  if (inside && part.norm_weight != nullptr) {
    weight = Load8(part.norm_weight, part.weight_type, column);
  }
#pragma unroll
  for (unsigned j = 0; j < kHeads; ++j) {
    const unsigned head = run + j * part.runs;
    if (part.norm_weight != nullptr) {
      const float rstd = InverseRms(task, x[j]);
      for (int i = 0; i < kVector; ++i) x[j][i] *= weight[i] * rstd;
    }
    if (!inside || head >= part.heads) continue;
    if (rotates && !shares_angles) angles = LoadAngles(part, head, token, column);
    if (rotates) Rotate(angles, x[j]);
    Store8(part.output, part.output_type, to + head * part.output_strides.head, x[j]);
  }
}

constexpr std::string_view kName = "rms norm rotary";

HeadStrides StridesOf(const ConstTensorView& heads) {
  return {heads.stride(0), heads.stride(1), heads.stride(2)};
}

// Of angles [N, D] or [H, N, D].
HeadStrides AngleStrides(const ConstTensorView& angles) {
  return {0, angles.rank() == 3 ? angles.stride(0) : 0, angles.stride(-2)};
}

RotaryPart MakePart(const HeadRows& rows) {
  CheckVectorRows(kName, "input", rows.input);
  CheckVectorRows(kName, "output", rows.output);
  CheckMultiple(kName, "input: head dimension", rows.input.dim(3), kVector);
  CheckRange(kName, "input: head dimension", rows.input.dim(3), 0, kMaxHeadDim);
  RotaryPart part{};
  part.input = rows.input.raw();
  part.output = rows.output.raw();
  part.input_type = rows.input.dtype();
  part.output_type = rows.output.dtype();
  part.input_strides = StridesOf(rows.input);
  part.output_strides = StridesOf(rows.output);
  part.tokens = static_cast<unsigned>(rows.input.dim(2));
  part.heads = static_cast<unsigned>(rows.input.dim(1));
  part.runs = (part.heads + kHeads - 1) / kHeads;
  const int64_t items = rows.input.dim(0) * rows.input.dim(2) * part.runs;
  CheckRange(kName, "input: vectors", items, 0, INT32_MAX);
  part.items = rows.input.NumElements() == 0 ? 0 : static_cast<unsigned>(items);
  if (!rows.norm_weight.empty()) {
    CheckVectorRows(kName, "norm_weight", rows.norm_weight);
    part.norm_weight = rows.norm_weight.raw();
    part.weight_type = rows.norm_weight.dtype();
  }
  if (rows.cosine.empty()) return part;
  CheckVectorRows(kName, "cosine", rows.cosine);
  CheckVectorRows(kName, "sine", rows.sine);
  part.cosine = rows.cosine.raw();
  part.sine = rows.sine.raw();
  part.angle_type = rows.cosine.dtype();
  part.cosine_strides = AngleStrides(rows.cosine);
  part.sine_strides = AngleStrides(rows.sine);
  return part;
}

void Run(Stream& stream, std::span<const HeadRows> parts, float epsilon) {
  RotaryTask task{};
  task.head_dim = static_cast<unsigned>(parts[0].input.dim(3));
  task.lanes = std::bit_ceil(std::max(1u, task.head_dim / kVector));
  task.epsilon = epsilon;
  unsigned most = 0;  // items
  for (size_t i = 0; i < parts.size(); ++i) {
    task.parts[i] = MakePart(parts[i]);
    most = std::max(most, task.parts[i].items);
  }
  const unsigned per_block = kThreads / task.lanes;
  Launch(RmsNormRotaryKernel,
         {.name = "rms norm rotary",
          .grid = dim3((most + per_block - 1) / per_block, static_cast<unsigned>(parts.size())),
          .block = kThreads},
         stream, task);
}

}  // namespace

void RmsNormRotary(Stream& stream, std::span<const HeadRows> parts, float epsilon) {
  for (; parts.size() > kMaxParts; parts = parts.subspan(kMaxParts)) {
    Run(stream, parts.first(kMaxParts), epsilon);
  }
  if (!parts.empty()) Run(stream, parts, epsilon);
}

}  // namespace tamias::cuda
