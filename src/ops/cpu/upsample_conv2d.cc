// The upsampling convolution in 16 instead of 36 products per input pixel. Each of the four output
// pixels of an input pixel sees only 2 x 2 different input pixels, so the nine weights collapse to
// four sums: output (2y + a, 2x + b) is a 2 x 2 convolution whose rows are {w0, w1 + w2} for a = 0
// and {w0 + w1, w2} for a = 1, and columns alike. The input goes through strips of rows with a
// frame of zeros; the four results are interleaved while they are in the cache.
#include "ops/upsample_conv2d.h"

#include <algorithm>
#include <array>

#include "base/parallel.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/onednn_conv2d.h"
#include "ops/cpu/widen.h"

namespace tamias {
namespace {

constexpr int64_t kStripBytes = int64_t{2} << 20;  // of one of the four results
constexpr int64_t kLeastRows = 4;
constexpr int kPhases = 4;

int64_t StripRows(const Shape& input, int64_t outputs) {
  const int64_t row_bytes = std::max<int64_t>(1, input[2] * std::max(input[3], outputs) * 4);
  const int64_t most = std::max(kLeastRows, kStripBytes / row_bytes);
  const int64_t strips = (input[1] + most - 1) / most;
  return (input[1] + strips - 1) / strips;
}

// The 2 x 2 kernel over rows + 1 of a strip's framed rows: rows x (W + 1) results.
cpu::OnednnConv2d PhaseKernel(const Shape& input, const Shape& weight, bool has_bias,
                              int64_t rows) {
  return cpu::OnednnConv2d(rows + 1, input[2] + 2, {weight[0], weight[1], 2, 2}, {}, has_bias,
                           false);
}

// out[o, c, i, j]: the 2 x 2 weights of phase (a, b).
void CollapseWeights(const float* weight, int64_t kernels, int a, int b, float* out) {
  for (int64_t k = 0; k < kernels; ++k, weight += 9, out += 4) {
    std::fill_n(out, 4, 0.0f);
    for (int i = 0; i < 3; ++i) {
      for (int j = 0; j < 3; ++j) out[(i + 1 - a) / 2 * 2 + (j + 1 - b) / 2] += weight[i * 3 + j];
    }
  }
}

// strip [rows + 2, W + 2, C]: the picture's rows from first - 1 on, framed by zeros.
void FillStrip(Context& context, const ConstTensorView& picture, int64_t first,
               const TensorView& strip) {
  const int64_t row_size = picture.dim(1) * picture.dim(2), channels = picture.dim(2);
  const int64_t framed_size = row_size + 2 * channels;
  ParallelForRanges(context, strip.dim(0), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* to = strip.data<float>() + r * framed_size;
      const int64_t y = first - 1 + r;
      if (y < 0 || y >= picture.dim(0)) {
        std::fill_n(to, framed_size, 0.0f);
        continue;
      }
      std::fill_n(to, channels, 0.0f);
      std::copy_n(picture.data<float>() + y * row_size, row_size, to + channels);
      std::fill_n(to + channels + row_size, channels, 0.0f);
    }
  });
}

// output[2 (first + r) + a, 2x + b] = result[r, x + b] for r < rows. result [rows, W + 1, O].
void Interleave(Context& context, const float* result, int64_t rows, int a, int b, int64_t first,
                const TensorView& output) {
  const int64_t width = output.dim(1) / 2, channels = output.dim(2);
  ParallelForRanges(context, rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = result + (r * (width + 1) + b) * channels;
      float* to = output.data<float>() + ((2 * (first + r) + a) * output.dim(1) + b) * channels;
      for (int64_t x = 0; x < width; ++x, from += channels, to += 2 * channels) {
        std::copy_n(from, channels, to);
      }
    }
  });
}

// What a call needs for strips of one height.
struct Strips {
  cpu::OnednnConv2d kernel;
  std::array<void*, kPhases> packed{};
};

Strips PrepareStrips(Context& context, const Shape& input, const Shape& weight,
                     const float* weights, bool has_bias, int64_t rows) {
  Strips strips{PhaseKernel(input, weight, has_bias, rows)};
  const auto bytes = static_cast<int64_t>(strips.kernel.weight_bytes());
  for (void*& packed : strips.packed) {
    packed = context.workspace().Allocate({bytes}, DType::kU8).raw();
  }
  Workspace::Scope scope(context.workspace());
  const TensorView collapsed = context.workspace().Allocate({weight[0], weight[1], 2, 2});
  for (int phase = 0; phase < kPhases; ++phase) {
    CollapseWeights(weights, weight[0] * weight[1], phase / 2, phase % 2, collapsed.data<float>());
    strips.kernel.PackWeights(context, collapsed, strips.packed[static_cast<size_t>(phase)]);
  }
  return strips;
}

void Upsample(Context& context, const ConstTensorView& input, const Shape& weight,
              const float* weights, const float* bias, const TensorView& output) {
  const int64_t height = input.dim(1), rows = StripRows(input.shape(), weight[0]);
  const int64_t last_rows = height - (height - 1) / rows * rows;
  const auto prepare = [&](int64_t strip_rows) {
    return PrepareStrips(context, input.shape(), weight, weights, bias != nullptr, strip_rows);
  };
  const Strips strips = prepare(rows);
  const Strips last_strips = last_rows == rows ? strips : prepare(last_rows);
  const int64_t framed = (input.dim(2) + 2) * input.dim(3);
  const TensorView strip = context.workspace().Allocate({rows + 2, input.dim(2) + 2, input.dim(3)});
  const TensorView result = context.workspace().Allocate({rows, input.dim(2) + 1, weight[0]});
  for (int64_t b = 0; b < input.dim(0); ++b) {
    for (int64_t y = 0; y < height; y += rows) {
      const bool last = y + rows >= height;
      const Strips& now = last ? last_strips : strips;
      const int64_t strip_rows = last ? last_rows : rows;
      FillStrip(context, input.Select(0, b), y, strip.Slice(0, 0, strip_rows + 2));
      for (int phase = 0; phase < kPhases; ++phase) {
        const int a = phase / 2;
        now.kernel.Run(context, strip.data<float>() + a * framed,
                       now.packed[static_cast<size_t>(phase)], bias, result.data<float>());
        Interleave(context, result.data<float>(), strip_rows, a, phase % 2, y, output.Select(0, b));
      }
    }
  }
}

}  // namespace

namespace cpu {

void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output) {
  Workspace::Scope scope(context.workspace());
  const OnednnThreads threads(context);
  const float* weights = WidenedData(context, weight);
  const float* biases = WidenedData(context, bias);
  WithOnednnErrors("upsample conv2d",
                   [&] { Upsample(context, input, weight.shape(), weights, biases, output); });
}

}  // namespace cpu

size_t UpsampleConv2dWorkspaceBytes(const Context& context, const Shape& input,
                                    const ConstTensorView& weight) {
  constexpr size_t kAlignment = 64;
  const cpu::OnednnThreads threads(context);
  const int64_t outputs = weight.dim(0), rows = StripRows(input, outputs);
  const cpu::OnednnConv2d kernel = PhaseKernel(input, weight.shape(), true, rows);
  const size_t floats = static_cast<size_t>(weight.NumElements() + outputs);
  const size_t widened =
      weight.dtype() == DType::kF32 ? 0 : floats * sizeof(float) + 2 * kAlignment;
  const int64_t strip = (rows + 2) * (input[2] + 2) * input[3];
  const int64_t result = rows * (input[2] + 1) * outputs;
  const size_t collapsed = static_cast<size_t>(weight.NumElements()) / 9 * 4 * sizeof(float);
  const size_t run = static_cast<size_t>(strip + result) * sizeof(float) + kernel.scratch_bytes();
  return widened + 2 * kPhases * (kernel.weight_bytes() + kAlignment) + std::max(run, collapsed) +
         4 * kAlignment;
}

}  // namespace tamias
