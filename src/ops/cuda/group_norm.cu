// Group norm of channels-last pictures, in its two halves. Statistics: blocks take the mean of each
// group over a chunk of pixels and the squares about it (the chunk is read twice, the second time
// from the caches), then one block per group puts the chunks together in double precision; chunks
// and orders depend on the shape alone. Scaling: a thread keeps the gain and the offset of its
// eight channels and walks down the pixels of a chunk.
#include <algorithm>

#include "ops/cuda/activation.cuh"
#include "ops/cuda/block_sum.cuh"
#include "ops/cuda/check_operand.h"
#include "ops/cuda/launch.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/scratch.h"
#include "ops/norm.h"

namespace tamias::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostChannels = kThreads * kVector;

// A chunk of a picture: the grid is chunks x pictures.
struct Chunks {
  int64_t pixels = 0;  // of a picture
  int64_t size = 0;    // of a chunk, in pixels
  int64_t count = 0;   // of chunks in a picture

  Chunks(int64_t picture_pixels, int64_t channels)
      : pixels(picture_pixels), size(PixelsPerChunk(channels)), count((pixels + size - 1) / size) {}
  __device__ int64_t Begin(int64_t chunk) const { return chunk * size; }
  __device__ int64_t End(int64_t chunk) const { return min((chunk + 1) * size, pixels); }
};

// Which channels and pixels of a chunk the calling thread works on.
struct Lane {
  int channel;  // of the first of eight
  int pixel;    // the first; >= step: none
  int step;     // to the next

  __device__ explicit Lane(int channels) {
    const int vectors = channels / kVector, thread = static_cast<int>(threadIdx.x);
    channel = thread % vectors * kVector;
    pixel = thread / vectors;
    step = kThreads / vectors;
  }
};

struct StatisticsTask {
  const void* input;  // [B, H W, C]
  DType input_type;
  int64_t picture_stride;
  int channels, groups;
  Chunks chunks;
  float2* moments;  // [B, chunks, groups]: mean, sum of squares about it
  const void* weight;
  const void* bias;  // null: none
  DType weight_type, bias_type;
  float epsilon;
  float* gain;
  float* offset;
};

__global__ void __launch_bounds__(kThreads) ChunkMomentsKernel(StatisticsTask task) {
  CheckLaunchBounds<kThreads>();
  __shared__ float sums[kThreads * kVector];  // [pixel lanes, channels]
  __shared__ float means[kMostChannels];      // of the groups
  const Lane lane(task.channels);
  const int width = task.channels / task.groups;
  const int64_t begin = task.chunks.Begin(blockIdx.x), end = task.chunks.End(blockIdx.x);
  const int64_t picture = blockIdx.y * task.picture_stride + lane.channel;
  const auto count = static_cast<float>((end - begin) * width);
  float2* moments = task.moments + (blockIdx.y * task.chunks.count + blockIdx.x) * task.groups;
  Floats8 centre{};
  for (int pass = 0; pass < 2; ++pass) {
    const bool squares = pass == 1;
    Floats8 sum{};
    if (lane.pixel < lane.step) {
      for (int64_t pixel = begin + lane.pixel; pixel < end; pixel += lane.step) {
        const Floats8 x = Load8(task.input, task.input_type, picture + pixel * task.channels);
        for (int i = 0; i < kVector; ++i) {
          const float difference = x[i] - centre[i];
          sum[i] += squares ? difference * difference : difference;
        }
      }
      for (int i = 0; i < kVector; ++i) {
        sums[lane.pixel * task.channels + lane.channel + i] = sum[i];
      }
    }
    __syncthreads();
    for (int group = static_cast<int>(threadIdx.x); group < task.groups; group += kThreads) {
      float total = 0;
      for (int row = 0; row < lane.step; ++row) {
        for (int c = 0; c < width; ++c) total += sums[row * task.channels + group * width + c];
      }
      if (squares) {
        moments[group] = {means[group], total};
      } else {
        means[group] = total / count;
      }
    }
    __syncthreads();
    for (int i = 0; i < kVector; ++i) centre[i] = means[(lane.channel + i) / width];
  }
}

// One block per group and picture.
__global__ void __launch_bounds__(kThreads) GainKernel(StatisticsTask task) {
  CheckLaunchBounds<kThreads>();
  constexpr int kWarps = kThreads / 32;
  __shared__ double sums[2][kWarps];
  const int group = static_cast<int>(blockIdx.x), width = task.channels / task.groups;
  const float2* moments = task.moments + blockIdx.y * task.chunks.count * task.groups + group;
  const auto count = [&](int64_t chunk) {
    return static_cast<double>((task.chunks.End(chunk) - task.chunks.Begin(chunk)) * width);
  };
  const double all = static_cast<double>(task.chunks.pixels * width);
  double mean = 0, square = 0;
  for (int64_t i = threadIdx.x; i < task.chunks.count; i += kThreads) {
    mean += count(i) * static_cast<double>(moments[i * task.groups].x);
  }
  mean = BlockSum<kWarps>(mean, sums[0]) / all;
  for (int64_t i = threadIdx.x; i < task.chunks.count; i += kThreads) {
    const double difference = static_cast<double>(moments[i * task.groups].x) - mean;
    square += static_cast<double>(moments[i * task.groups].y) + count(i) * difference * difference;
  }
  const auto variance = static_cast<float>(BlockSum<kWarps>(square, sums[1]) / all);
  const float rstd = 1 / sqrtf(variance + task.epsilon);
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads) {
    const int channel = group * width + c;
    const float weight =
        task.weight == nullptr ? 1.0f : LoadOne(task.weight, task.weight_type, channel);
    const float bias = task.bias == nullptr ? 0.0f : LoadOne(task.bias, task.bias_type, channel);
    const int64_t place = static_cast<int64_t>(blockIdx.y) * task.channels + channel;
    task.gain[place] = weight * rstd;
    task.offset[place] = bias - static_cast<float>(mean) * (weight * rstd);
  }
}

struct ScaleTask {
  const void* input;
  void* output;
  DType input_type, output_type;
  RowOffsets input_rows, output_rows;  // of pixels
  const float* gain;
  const float* offset;
  int channels;
  Activation activation;
  Chunks chunks;
};

__global__ void __launch_bounds__(kThreads) ScaleShiftKernel(ScaleTask task) {
  CheckLaunchBounds<kThreads>();
  const Lane lane(task.channels);
  if (lane.pixel >= lane.step) return;
  const int64_t coefficients = static_cast<int64_t>(blockIdx.y) * task.channels + lane.channel;
  const Floats8 gain = Load8(task.gain, DType::kF32, coefficients);
  const Floats8 offset = Load8(task.offset, DType::kF32, coefficients);
  const int64_t end = task.chunks.End(blockIdx.x), picture = blockIdx.y * task.chunks.pixels;
  for (int64_t i = task.chunks.Begin(blockIdx.x) + lane.pixel; i < end; i += lane.step) {
    const int64_t pixel = picture + i;
    Floats8 x = Load8(task.input, task.input_type, task.input_rows(pixel) + lane.channel);
    for (int k = 0; k < kVector; ++k) x[k] = gain[k] * x[k] + offset[k];
    Activate8(task.activation, x);
    Store8(task.output, task.output_type, task.output_rows(pixel) + lane.channel, x);
  }
}

void CheckPictures(std::string_view operation, std::string_view argument,
                   const ConstTensorView& view) {
  CheckVectorRows(operation, argument, view);
  CheckMultiple(operation, "channels", view.dim(3), kVector);
  CheckRange(operation, "channels", view.dim(3), kVector, kMostChannels);
  constexpr int64_t kMaxGridY = 65535;
  CheckRange(operation, "pictures", view.dim(0), 0, kMaxGridY);
}

void CheckCoefficients(std::string_view operation, const ConstTensorView& gain,
                       const ConstTensorView& offset) {
  CheckVectorRows(operation, "gain", gain);
  CheckVectorRows(operation, "offset", offset);
}

Chunks ChunksOf(const Shape& pictures) { return {pictures[1] * pictures[2], pictures[3]}; }

dim3 GridOf(const Chunks& chunks, int64_t pictures) {
  return {static_cast<unsigned>(chunks.count), static_cast<unsigned>(pictures)};
}

}  // namespace

void GroupNormStatistics(Stream& stream, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView scratch, TensorView gain, TensorView offset) {
  constexpr std::string_view kName = "group norm";
  CheckPictures(kName, "input", input);
  CheckCoefficients(kName, gain, offset);
  if (input.NumElements() == 0) return;
  Scratch memory(kName, scratch, GroupNormStatisticsScratchBytes(input.shape(), groups));
  const Chunks chunks = ChunksOf(input.shape());
  const TensorView moments = memory.Take({input.dim(0), chunks.count, groups, 2}, DType::kF32);
  const StatisticsTask task{.input = input.raw(),
                            .input_type = input.dtype(),
                            .picture_stride = input.stride(0),
                            .channels = static_cast<int>(input.dim(3)),
                            .groups = static_cast<int>(groups),
                            .chunks = chunks,
                            .moments = static_cast<float2*>(moments.raw()),
                            .weight = weight.raw(),
                            .bias = bias.raw(),
                            .weight_type = weight.dtype(),
                            .bias_type = bias.dtype(),
                            .epsilon = epsilon,
                            .gain = gain.data<float>(),
                            .offset = offset.data<float>()};
  Launch(ChunkMomentsKernel,
         {.name = "group norm, chunks", .grid = GridOf(chunks, input.dim(0)), .block = kThreads},
         stream, task);
  const dim3 grid(static_cast<unsigned>(groups), static_cast<unsigned>(input.dim(0)));
  Launch(GainKernel, {.name = "group norm, gain", .grid = grid, .block = kThreads}, stream, task);
}

void ScaleShiftChannels(Stream& stream, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output) {
  constexpr std::string_view kName = "scale shift channels";
  CheckPictures(kName, "input", input);
  CheckPictures(kName, "output", output);
  CheckCoefficients(kName, gain, offset);
  if (input.NumElements() == 0) return;
  const ScaleTask task{.input = input.raw(),
                       .output = output.raw(),
                       .input_type = input.dtype(),
                       .output_type = output.dtype(),
                       .input_rows = RowOffsets(input),
                       .output_rows = RowOffsets(output),
                       .gain = gain.data<float>(),
                       .offset = offset.data<float>(),
                       .channels = static_cast<int>(input.dim(3)),
                       .activation = silu ? Activation::kSilu : Activation::kNone,
                       .chunks = ChunksOf(input.shape())};
  Launch(ScaleShiftKernel,
         {.name = "scale shift channels",
          .grid = GridOf(task.chunks, input.dim(0)),
          .block = kThreads},
         stream, task);
}

}  // namespace tamias::cuda
