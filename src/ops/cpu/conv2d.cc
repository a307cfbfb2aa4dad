// Convolution by oneDNN, channels-last. An input that is scaled as it is read (group norm and SiLU
// before a convolution) goes through a strip of rows that stays in the second-level cache: the
// normalised picture is never stored, which halves the memory traffic and saves a third of the
// autoencoder's memory. Strips hold their zero rows above and below, so that one kernel serves all
// of them.
#include "ops/conv2d.h"

#include <algorithm>

#include "ops/cpu/onednn.h"
#include "ops/cpu/onednn_conv2d.h"
#include "ops/cpu/widen.h"
#include "ops/norm.h"

namespace tamias {
namespace {

constexpr int64_t kStripBytes = int64_t{2} << 20;
constexpr int64_t kLeastRows = 8;  // per strip: fewer, and the rows that overlap cost too much

int64_t OutputHeight(const Shape& input, const Shape& weight, const Padding& padding) {
  return input[1] + padding.top + padding.bottom - weight[2] + 1;
}

// Output rows of one strip: as even as they come, so that all strips but the last are of one size.
int64_t StripRows(const Shape& input, int64_t output_height) {
  const int64_t row_bytes = std::max<int64_t>(1, input[2] * input[3] * 4);
  const int64_t most = std::max(kLeastRows, kStripBytes / row_bytes);
  const int64_t strips = (output_height + most - 1) / most;
  return (output_height + strips - 1) / strips;
}

// The strip's convolution: rows are padded in memory, columns by oneDNN.
cpu::OnednnConv2d StripKernel(const Shape& input, const Shape& weight, const Padding& padding,
                              bool has_bias, bool accumulate, int64_t rows) {
  return cpu::OnednnConv2d(rows + weight[2] - 1, input[2], weight,
                           {0, 0, padding.left, padding.right}, has_bias, accumulate);
}

// Fills `strip` [rows, W, C] with f(gain x + offset) of the picture's rows from `first` on; rows
// outside the picture are zero.
void FillStrip(Context& context, const ConstTensorView& picture, int64_t b, int64_t first,
               const Conv2dOptions& options, const TensorView& strip) {
  const int64_t rows = strip.dim(0), row_size = strip.dim(1) * strip.dim(2);
  const int64_t begin = std::clamp<int64_t>(-first, 0, rows);
  const int64_t end = std::clamp<int64_t>(picture.dim(0) - first, begin, rows);
  float* values = strip.data<float>();
  std::fill(values, values + begin * row_size, 0.0f);
  std::fill(values + end * row_size, values + rows * row_size, 0.0f);
  if (begin == end) return;
  const Shape shape = {1, end - begin, strip.dim(1), strip.dim(2)};
  cpu::ScaleShiftChannels(context, picture.Slice(0, first + begin, first + end).Reshape(shape),
                          options.input_gain.Slice(0, b, b + 1),
                          options.input_offset.Slice(0, b, b + 1), options.input_silu,
                          strip.Slice(0, begin, end).Reshape(shape));
}

void ConvolvePlain(Context& context, const ConstTensorView& input, const Shape& weight,
                   const float* weights, const float* bias, const Conv2dOptions& options,
                   const TensorView& output) {
  const cpu::OnednnConv2d kernel(input.dim(1), input.dim(2), weight, options.padding,
                                 bias != nullptr, options.accumulate);
  void* packed =
      context.workspace().Allocate({static_cast<int64_t>(kernel.weight_bytes())}, DType::kU8).raw();
  kernel.PackWeights(context, weights, packed);
  for (int64_t b = 0; b < input.dim(0); ++b) {
    kernel.Run(context, input.Select(0, b).data<float>(), packed, bias,
               output.Select(0, b).data<float>());
  }
}

void ConvolveStrips(Context& context, const ConstTensorView& input, const Shape& weight,
                    const float* weights, const float* bias, const Conv2dOptions& options,
                    const TensorView& output) {
  const int64_t height = output.dim(1), rows = StripRows(input.shape(), height);
  const int64_t last_rows = height - (height - 1) / rows * rows;
  const auto kernel_for = [&](int64_t strip_rows) {
    return StripKernel(input.shape(), weight, options.padding, bias != nullptr, options.accumulate,
                       strip_rows);
  };
  const cpu::OnednnConv2d kernel = kernel_for(rows), last_kernel = kernel_for(last_rows);
  const auto pack = [&](const cpu::OnednnConv2d& packer) {
    const auto bytes = static_cast<int64_t>(packer.weight_bytes());
    void* packed = context.workspace().Allocate({bytes}, DType::kU8).raw();
    packer.PackWeights(context, weights, packed);
    return packed;
  };
  void* packed = pack(kernel);
  void* last_packed = kernel.SharesWeights(last_kernel) ? packed : pack(last_kernel);
  const TensorView strip =
      context.workspace().Allocate({rows + weight[2] - 1, input.dim(2), input.dim(3)});
  for (int64_t b = 0; b < input.dim(0); ++b) {
    for (int64_t y = 0; y < height; y += rows) {
      const bool last = y + rows >= height;
      const int64_t strip_rows = last ? last_rows : rows;
      FillStrip(context, input.Select(0, b), b, y - options.padding.top, options,
                strip.Slice(0, 0, strip_rows + weight[2] - 1));
      (last ? last_kernel : kernel)
          .Run(context, strip.data<float>(), last ? last_packed : packed, bias,
               output.Select(0, b).Slice(0, y, y + strip_rows).data<float>());
    }
  }
}

}  // namespace

namespace cpu {

void Conv2d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output) {
  Workspace::Scope scope(context.workspace());
  const OnednnThreads threads(context);
  const float* weights = WidenedData(context, weight);
  const float* biases = WidenedData(context, bias);
  WithOnednnErrors("conv2d", [&] {
    const auto convolve = options.input_gain.empty() ? ConvolvePlain : ConvolveStrips;
    convolve(context, input, weight.shape(), weights, biases, options, output);
  });
}

}  // namespace cpu

size_t Conv2dWorkspaceBytes(const Context& context, const Shape& input,
                            const ConstTensorView& weight, const Padding& padding,
                            bool scales_input) {
  constexpr size_t kAlignment = 64;
  const cpu::OnednnThreads threads(context);
  const size_t floats = static_cast<size_t>(weight.NumElements() + weight.dim(0));
  const size_t widened =
      weight.dtype() == DType::kF32 ? 0 : floats * sizeof(float) + 2 * kAlignment;
  if (!scales_input) {
    const cpu::OnednnConv2d kernel(input[1], input[2], weight.shape(), padding, true, true);
    return widened + kernel.weight_bytes() + kernel.scratch_bytes() + 2 * kAlignment;
  }
  const int64_t height = OutputHeight(input, weight.shape(), padding);
  const int64_t rows = StripRows(input, height);
  const cpu::OnednnConv2d kernel = StripKernel(input, weight.shape(), padding, true, true, rows);
  const int64_t strip = (rows + weight.dim(2) - 1) * input[2] * input[3];
  // The pattern of gains and offsets: see cpu/group_norm.cc.
  const size_t patterns = 2 * 16 * static_cast<size_t>(input[3]) * sizeof(float);
  return widened + 2 * kernel.weight_bytes() + static_cast<size_t>(strip) * sizeof(float) +
         std::max(patterns, kernel.scratch_bytes()) + 6 * kAlignment;
}

}  // namespace tamias
