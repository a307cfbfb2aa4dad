// Convolution as a product on the tensor cores, without a matrix of patches in memory:
//   C[pixel, o] = sum over taps (k, i, j) and channels c of A[pixel, (k, i, j, c)] B[(k, i, j, c),
//   o]
// A is the input: for each tap, 128 output pixels name the 128 input pixels they see, and the
// channels of those are copied to shared memory as the rows of a column-sparse product are; pixels
// outside are zeros. B is the weight with the channels fastest, packed at each call.
// An input that is normalised as it is read goes through memory first: in registers each pixel
// would be normalised again for each of its taps. So does one whose channels are no whole vectors
// (pixels of three colours, latents of twelve channels): zeros are put behind them.
#include "ops/cuda/convolution.h"

#include "base/cuda/memory.h"
#include "ops/copy.h"
#include "ops/cuda/gathered_product.cuh"
#include "ops/cuda/launch_bounds.cuh"
#include "ops/cuda/rows.cuh"
#include "ops/cuda/rows_operand.cuh"
#include "ops/cuda/scratch.h"
#include "ops/cuda/shared_memory.cuh"
#include "ops/norm.h"

namespace tamias::cuda {
namespace {

using Tile = ProductTile;

struct ConvolutionTask {
  const void* input;  // [B, T, H, W, C]
  int64_t input_film_stride, input_frame_stride;
  const void* weight;  // [O, kt, kh, kw, C], of the input's type
  const void* bias;    // null: none
  DType bias_type;
  void* output;  // [B, T', H', W', O]
  DType output_type;
  RowOffsets output_rows;
  bool output_has_vectors;  // O is a multiple of 8
  int channels, outputs;
  int frames, height, width;  // of the input as the kernel sees it: enlarged
  int kernel_frames, kernel_height, kernel_width;
  int output_frames, output_height, output_width;
  int front, top, left;
  bool doubles_pixels, doubles_frames;
  bool clamps_time, clamps_space;  // the nearest pixel stands for those outside; otherwise zeros
  bool accumulate;
  int64_t pixels;  // B T' H' W'
  ProductSchedule schedule;
};

// The input pixels that 128 output pixels see, tap after tap. A thread copies one vector of
// channels for four of the pixels, and the same vector 32 channels on at the next stage, beginning
// with the next tap behind the last channel.
template <typename Half>
class PixelsOperand {
 public:
  using Layout = DepthFastest;

  __device__ PixelsOperand(const ConvolutionTask& task, int64_t first_pixel)
      : task_(task), channel_(Layout::DepthVector() * kVector) {
#pragma unroll
    for (int i = 0; i < Tile::kCopies; ++i) {
      int64_t pixel = first_pixel + Layout::Line(i);
      is_pixel_ |= (pixel < task.pixels ? 1u : 0u) << i;
      x_[i] = static_cast<int>(pixel % task.output_width) - task.left;
      pixel /= task.output_width;
      y_[i] = static_cast<int>(pixel % task.output_height) - task.top;
      pixel /= task.output_height;
      t_[i] = static_cast<int>(pixel % task.output_frames) - task.front;
      film_[i] = static_cast<int>(pixel / task.output_frames);
    }
    SkipTaps();
    FindRows();
  }

  __device__ void Copy(unsigned char* operand, int) {
#pragma unroll
    for (int i = 0; i < Tile::kCopies; ++i) {
      const bool inside = (present_ >> i & 1u) != 0;
      CpAsync16(operand + Layout::Offset(Layout::Line(i), Layout::DepthVector()),
                inside ? rows_[i] + channel_ : rows_[i], inside);
    }
    channel_ += Tile::kDepth;
    if (channel_ >= task_.channels) {
      SkipTaps();
      FindRows();
    }
  }

 private:
  // Moves on to the tap that the channel lies in.
  __device__ void SkipTaps() {
    while (channel_ >= task_.channels) {
      channel_ -= task_.channels;
      if (++column_ < task_.kernel_width) continue;
      column_ = 0;
      if (++row_ < task_.kernel_height) continue;
      row_ = 0;
      ++frame_;
    }
  }

  // Where the tap's pixels begin, and which of them exist.
  __device__ void FindRows() {
    present_ = 0;
#pragma unroll
    for (int i = 0; i < Tile::kCopies; ++i) {
      rows_[i] = static_cast<const Half*>(task_.input);
      int t = t_[i] + frame_, y = y_[i] + row_, x = x_[i] + column_;
      if (task_.clamps_time) t = min(max(t, 0), task_.frames - 1);
      if (task_.clamps_space) {
        y = min(max(y, 0), task_.height - 1);
        x = min(max(x, 0), task_.width - 1);
      }
      const bool inside = (is_pixel_ >> i & 1u) != 0 && frame_ < task_.kernel_frames && t >= 0 &&
                          t < task_.frames && y >= 0 && y < task_.height && x >= 0 &&
                          x < task_.width;
      if (!inside) continue;
      present_ |= 1u << i;
      if (task_.doubles_frames) t = (t + 1) / 2;
      const int shift = task_.doubles_pixels ? 1 : 0;
      const int64_t place =
          static_cast<int64_t>(y >> shift) * (task_.width >> shift) + (x >> shift);
      rows_[i] += film_[i] * task_.input_film_stride + t * task_.input_frame_stride +
                  place * task_.channels;
    }
  }

  const ConvolutionTask& task_;
  int film_[Tile::kCopies], t_[Tile::kCopies], y_[Tile::kCopies], x_[Tile::kCopies];
  unsigned is_pixel_ = 0;
  int frame_ = 0, row_ = 0, column_ = 0;  // the tap
  int channel_;                           // that the next copy begins with
  const Half* rows_[Tile::kCopies];
  unsigned present_ = 0;  // bit i: rows_[i] is a pixel; otherwise zeros
};

__device__ Floats8 LoadOutput(const ConvolutionTask& task, int64_t offset, int count) {
  if (task.output_has_vectors) return Load8(task.output, task.output_type, offset);
  Floats8 result{};
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (i < count) result[i] = LoadOne(task.output, task.output_type, offset + i);
  }
  return result;
}

__device__ void StoreOutput(const ConvolutionTask& task, int64_t offset, int count,
                            const Floats8& v) {
  if (task.output_has_vectors) return Store8(task.output, task.output_type, offset, v);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (i < count) StoreOne(task.output, task.output_type, offset + i, v[i]);
  }
}

__device__ void Write(const ConvolutionTask& task, int64_t first_pixel, int first_output,
                      const Accumulators& accumulators, unsigned char* shared) {
  const int output = first_output + VectorColumn();
  const int count = min(kVector, task.outputs - output);
  Floats8 bias{};
#pragma unroll
  for (int k = 0; k < kVector; ++k) {
    if (task.bias != nullptr && k < count) bias[k] = LoadOne(task.bias, task.bias_type, output + k);
  }
  ForEachVector(accumulators, shared, [&](int line, Floats8 sum) {
    const int64_t pixel = first_pixel + line;
    if (pixel >= task.pixels || count <= 0) return;
    const int64_t offset = task.output_rows(pixel) + output;
    for (int k = 0; k < kVector; ++k) sum[k] += bias[k];
    if (task.accumulate) {
      const Floats8 before = LoadOutput(task, offset, count);
      for (int k = 0; k < kVector; ++k) sum[k] += before[k];
    }
    StoreOutput(task, offset, count, sum);
  });
}

template <typename Half>
__global__ void __launch_bounds__(Tile::kThreads, 2) ConvolutionKernel(ConvolutionTask task) {
  CheckLaunchBounds<Tile::kThreads>();
  unsigned char* shared = SharedMemory();
  const ProductSchedule::Place place = task.schedule.Of(blockIdx.x);
  const int64_t first_pixel = place.unit * Tile::kLines;
  const int first_output = static_cast<int>(place.tile) * Tile::kLines;
  const int depth = task.kernel_frames * task.kernel_height * task.kernel_width * task.channels;
  PixelsOperand<Half> pixels(task, first_pixel);
  RowsOperand<Half> weights(task.weight, depth, [&](int line) -> const Half* {
    if (first_output + line >= task.outputs) return nullptr;
    return static_cast<const Half*>(task.weight) +
           static_cast<int64_t>(first_output + line) * depth;
  });
  Accumulators accumulators;
  MultiplyGathered<Half>(pixels, weights, depth, shared, accumulators);
  Write(task, first_pixel, first_output, accumulators, shared);
}

// packed[o, k, i, j, c] = weight[o, c, k, i, j] in the packed type, zeros behind the last channel;
// an element a thread.
struct PackTask {
  const void* weight;
  void* packed;
  DType weight_type, packed_type;
  int64_t strides[5];  // of o, k, i, j, c in the weight
  int sizes[5];        // of the packed axes
  int channels;        // of the weight
  int64_t count;
};

constexpr unsigned kPackThreads = 256;

__global__ void __launch_bounds__(kPackThreads) PackWeightKernel(PackTask task) {
  CheckLaunchBounds<kPackThreads>();
  const int64_t element = static_cast<int64_t>(blockIdx.x) * kPackThreads + threadIdx.x;
  if (element >= task.count) return;
  const bool is_padding = element % task.sizes[4] >= task.channels;
  int64_t offset = 0, rest = element;
  for (int axis = 4; axis >= 0; --axis) {
    offset += rest % task.sizes[axis] * task.strides[axis];
    rest /= task.sizes[axis];
  }
  StoreOne(task.packed, task.packed_type, element,
           is_padding ? 0.0f : LoadOne(task.weight, task.weight_type, offset));
}

Shape PackedShape(const ConstTensorView& weight) {
  return {weight.dim(0), weight.dim(2), weight.dim(3), weight.dim(4), WholeVectors(weight.dim(1))};
}

void PackWeight(Stream& stream, const ConstTensorView& weight, const TensorView& packed) {
  PackTask task{.weight = weight.raw(),
                .packed = packed.raw(),
                .weight_type = weight.dtype(),
                .packed_type = packed.dtype(),
                .strides = {},
                .sizes = {},
                .channels = static_cast<int>(weight.dim(1)),
                .count = packed.NumElements()};
  constexpr int kAxes[] = {0, 2, 3, 4, 1};
  for (int axis = 0; axis < 5; ++axis) {
    task.strides[axis] = weight.stride(kAxes[axis]);
    task.sizes[axis] = static_cast<int>(packed.dim(axis));
  }
  const auto blocks = static_cast<unsigned>((task.count + kPackThreads - 1) / kPackThreads);
  Launch(PackWeightKernel, {.name = "convolution, weight", .grid = blocks, .block = kPackThreads},
         stream, task);
}

// normalised[b, t] = f(gain x + offset): a picture per frame, since frames may lie apart.
void Normalise(Stream& stream, const ConstTensorView& input, const Conv3dOptions& options,
               const TensorView& normalised) {
  for (int64_t b = 0; b < input.dim(0); ++b) {
    for (int64_t t = 0; t < input.dim(1); ++t) {
      const int64_t g = options.input_gain.dim(1) == 1 ? 0 : t;
      const auto row = [&](const ConstTensorView& view) {
        return view.Select(0, b).Slice(0, g, g + 1);
      };
      ScaleShiftChannels(stream, input.Select(0, b).Slice(0, t, t + 1), row(options.input_gain),
                         row(options.input_offset), options.input_silu,
                         normalised.Select(0, b).Slice(0, t, t + 1));
    }
  }
}

// Zeros behind the channels.
void Pad(Stream& stream, const ConstTensorView& input, const TensorView& padded) {
  Zero(stream, padded);
  CopyStrided(stream, input, padded.Slice(4, 0, input.dim(4)));
}

void Check(const Convolution& c, const TensorView& output) {
  CheckHalves(c.name, "input", c.input);
  const bool reads_in_place = c.input.dim(4) % kVector == 0;
  if (reads_in_place) CheckVectorRows(c.name, "input", c.input);
  if (!c.options.input_gain.empty() || c.doubles_pixels) {
    CheckMultiple(c.name, "input: channels", c.input.dim(4), kVector);
  }
  if (output.dim(4) % kVector == 0) CheckVectorRows(c.name, "output", output);
  // All indices within a kernel fit 32 bits.
  constexpr int64_t kMost = 1 << 30;
  for (const int64_t size : output.shape().dims()) {
    CheckRange(c.name, "output: sizes", size, 0, kMost);
  }
  CheckRange(c.name, "weight: elements of an output",
             c.weight.NumElements() / std::max<int64_t>(c.weight.dim(0), 1), 0, kMost);
}

ConvolutionTask MakeTask(const Convolution& c, const ConstTensorView& input,
                         const ConstTensorView& weight, const TensorView& output) {
  const int doubling = c.doubles_pixels ? 2 : 1;
  const auto frames = static_cast<int>(input.dim(1));
  const Padding3d& padding = c.options.padding;
  const bool clamps = padding.mode == PaddingMode::kReplicate;
  const int64_t pixels = NumRows(output);
  return {.input = input.raw(),
          .input_film_stride = input.stride(0),
          .input_frame_stride = input.stride(1),
          .weight = weight.raw(),
          .bias = c.bias.raw(),
          .bias_type = c.bias.dtype(),
          .output = output.raw(),
          .output_type = output.dtype(),
          .output_rows = RowOffsets(output),
          .output_has_vectors = output.dim(4) % kVector == 0,
          .channels = static_cast<int>(input.dim(4)),
          .outputs = static_cast<int>(output.dim(4)),
          .frames = c.doubles_frames ? 2 * frames - 1 : frames,
          .height = doubling * static_cast<int>(input.dim(2)),
          .width = doubling * static_cast<int>(input.dim(3)),
          .kernel_frames = static_cast<int>(weight.dim(1)),
          .kernel_height = static_cast<int>(weight.dim(2)),
          .kernel_width = static_cast<int>(weight.dim(3)),
          .output_frames = static_cast<int>(output.dim(1)),
          .output_height = static_cast<int>(output.dim(2)),
          .output_width = static_cast<int>(output.dim(3)),
          .front = static_cast<int>(padding.front),
          .top = static_cast<int>(padding.top),
          .left = static_cast<int>(padding.left),
          .doubles_pixels = c.doubles_pixels,
          .doubles_frames = c.doubles_frames,
          .clamps_time = clamps || c.repeats_first_frame,
          .clamps_space = clamps,
          .accumulate = c.options.accumulate,
          .pixels = pixels,
          .schedule = {.units = (pixels + Tile::kLines - 1) / Tile::kLines,
                       .tiles = (output.dim(4) + Tile::kLines - 1) / Tile::kLines}};
}

}  // namespace

void Convolve(Stream& stream, const Convolution& convolution, TensorView scratch,
              TensorView output) {
  const Convolution& c = convolution;
  Check(c, output);
  if (output.NumElements() == 0) return;
  const bool scales_input = !c.options.input_gain.empty();
  Scratch memory(c.name, scratch, ConvolutionScratchBytes(c.input.shape(), c.weight, scales_input));
  const TensorView weight = memory.Take(PackedShape(c.weight), c.input.dtype());
  PackWeight(stream, c.weight, weight);
  ConstTensorView input = c.input;
  if (scales_input) {
    const TensorView normalised = memory.Take(input.shape(), input.dtype());
    Normalise(stream, input, c.options, normalised);
    input = normalised;
  } else if (input.dim(4) % kVector != 0) {
    Shape shape = input.shape();
    shape[4] = WholeVectors(shape[4]);
    const TensorView padded = memory.Take(shape, input.dtype());
    Pad(stream, input, padded);
    input = padded;
  }
  const ConvolutionTask task = MakeTask(c, input, weight, output);
  const LaunchShape launch = ProductLaunch(c.name, task.schedule);
  if (input.dtype() == DType::kBF16) {
    Launch(ConvolutionKernel<BFloat16>, launch, stream, task);
  } else {
    Launch(ConvolutionKernel<Float16>, launch, stream, task);
  }
}

}  // namespace tamias::cuda
