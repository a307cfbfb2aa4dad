// Convolution by oneDNN, channels-last, as sums of two-dimensional ones: each frame of the input is
// convolved with the kt slices of the weight and added to the kt frames of the output that see it.
// An input that is scaled as it is read (group norm and SiLU before a convolution) or padded by
// repetition or in time goes through a strip of rows that stays in the second-level cache while all
// kt slices use it: the normalised and padded film is never stored, which halves the memory traffic
// and saves a third of an autoencoder's memory. Strips hold their padding rows above and below, so
// that one kernel serves all of them.
#include "ops/conv3d.h"

#include <algorithm>
#include <vector>

#include "ops/cpu/onednn.h"
#include "ops/cpu/onednn_conv2d.h"
#include "ops/cpu/padded_strip.h"
#include "ops/cpu/widen.h"

namespace tamias {
namespace {

constexpr int64_t kStripBytes = int64_t{2} << 20;
constexpr int64_t kLeastRows = 8;  // per strip: fewer, and the rows that overlap cost too much

// The kernels for one height: the first slice of the weight begins the output, the others add.
class FrameKernels {
 public:
  FrameKernels(int64_t height, int64_t width, const Shape& weight, const cpu::ConvTypes& types,
               const Padding& padding, bool has_bias, bool accumulate)
      : first_(height, width, {weight[0], weight[1], weight[3], weight[4]}, types, padding,
               has_bias, accumulate),
        next_(height, width, {weight[0], weight[1], weight[3], weight[4]}, types, padding, false,
              true),
        slices_(weight[2]) {}

  bool SharesWeights(const FrameKernels& other) const {
    return first_.SharesWeights(other.first_) && next_.SharesWeights(other.next_);
  }

  // weight [O, C, kt, kh, kw] f32, into workspace that must outlive the kernels.
  void PackWeights(Context& context, const ConstTensorView& weight) {
    for (int64_t k = 0; k < slices_; ++k) {
      const cpu::OnednnConv2d& kernel = k == 0 ? first_ : next_;
      const auto bytes = static_cast<int64_t>(kernel.weight_bytes());
      packed_.push_back(context.workspace().Allocate({bytes}, DType::kU8).raw());
      kernel.PackWeights(context, weight.Select(2, k), packed_.back());
    }
  }
  void TakeWeights(const FrameKernels& other) { packed_ = other.packed_; }

  // Adds slice k's part to the output; slice 0 comes first.
  void Run(Context& context, int64_t k, const void* input, const float* bias, void* output) const {
    void* packed = packed_[static_cast<size_t>(k)];
    if (k == 0) return first_.Run(context, input, packed, bias, output);
    next_.Run(context, input, packed, nullptr, output);
  }

 private:
  cpu::OnednnConv2d first_, next_;
  int64_t slices_;
  std::vector<void*> packed_;
};

// How a convolution is cut into strips.
struct StripPlan {
  StripPlan(const Shape& input, size_t element_size, const Shape& weight, const Padding3d& padding)
      : height(input[2] + padding.top + padding.bottom - weight[3] + 1), width(input[3]) {
    if (padding.mode == PaddingMode::kReplicate) {
      width += padding.left + padding.right;
    } else {
      columns = {0, 0, padding.left, padding.right};
    }
    // As even as they come, so that all strips but the last are of one size.
    const int64_t row_bytes =
        std::max<int64_t>(1, width * input[4] * static_cast<int64_t>(element_size));
    const int64_t most = std::max(kLeastRows, kStripBytes / row_bytes);
    const int64_t strips = (height + most - 1) / most;
    rows = (height + strips - 1) / strips;
    last_rows = height - (height - 1) / rows * rows;
  }

  int64_t height;           // of the output
  int64_t width;            // of a strip in memory: repeated columns are stored, zeros are not
  Padding columns;          // the zeros, left to oneDNN
  int64_t rows, last_rows;  // of the output, per strip

  FrameKernels Kernels(int64_t strip_rows, const Shape& weight, const cpu::ConvTypes& types,
                       bool has_bias, bool accumulate) const {
    return FrameKernels(strip_rows + weight[3] - 1, width, weight, types, columns, has_bias,
                        accumulate);
  }
};

bool NeedsStrips(const Padding3d& padding, bool scales_input) {
  const bool pads_space = padding.top + padding.bottom + padding.left + padding.right > 0;
  return scales_input || padding.front + padding.back > 0 ||
         (padding.mode == PaddingMode::kReplicate && pads_space);
}

cpu::Frame FrameOf(const ConstTensorView& input, const Conv3dOptions& options, int64_t b,
                   int64_t t) {
  cpu::Frame frame{.pixels = input.Select(0, b).Select(0, t), .silu = options.input_silu};
  if (options.input_gain.empty()) return frame;
  const int64_t g = options.input_gain.dim(1) == 1 ? 0 : t;
  frame.gain = options.input_gain.Select(0, b).Slice(0, g, g + 1);
  frame.offset = options.input_offset.Select(0, b).Slice(0, g, g + 1);
  return frame;
}

// The operands of a convolution: the input in the type that is multiplied, the weights in fp32.
struct Operands {
  ConstTensorView input, weight;
  const float* bias;
  const Conv3dOptions& options;
  TensorView output;

  cpu::ConvTypes types() const { return {.operands = input.dtype(), .output = output.dtype()}; }
};

void ConvolveFrames(Context& context, const Operands& a) {
  const Padding3d& padding = a.options.padding;
  FrameKernels kernels(a.input.dim(2), a.input.dim(3), a.weight.shape(), a.types(),
                       {padding.top, padding.bottom, padding.left, padding.right},
                       a.bias != nullptr, a.options.accumulate);
  kernels.PackWeights(context, a.weight);
  for (int64_t b = 0; b < a.output.dim(0); ++b) {
    for (int64_t t = 0; t < a.output.dim(1); ++t) {
      for (int64_t k = 0; k < a.weight.dim(2); ++k) {
        kernels.Run(context, k, a.input.Select(0, b).Select(0, t + k).raw(), a.bias,
                    a.output.Select(0, b).Select(0, t).raw());
      }
    }
  }
}

// Rows [y, y + rows) of all frames of film b.
void ConvolveStrip(Context& context, const Operands& a, const FrameKernels& kernels, int64_t b,
                   int64_t y, int64_t rows, const TensorView& strip) {
  const Padding3d& padding = a.options.padding;
  const int64_t frames = a.input.dim(1), padded_frames = frames + padding.front + padding.back;
  for (int64_t f = 0; f < padded_frames; ++f) {
    const int64_t source = f - padding.front, nearest = std::clamp<int64_t>(source, 0, frames - 1);
    if (source == nearest || padding.mode == PaddingMode::kReplicate) {
      const bool replicates = padding.mode == PaddingMode::kReplicate;
      cpu::FillStrip(context, FrameOf(a.input, a.options, b, nearest), y - padding.top,
                     replicates ? padding.left : 0, replicates ? padding.right : 0, padding.mode,
                     strip);
    } else if (!context.IsPlanning()) {
      cpu::ClearStrip(strip);
    }
    // The output's frame t meets its slices in order: frame t + k of the padded input holds its
    // kth.
    for (int64_t k = 0; k < a.weight.dim(2); ++k) {
      const int64_t t = f - k;
      if (t < 0 || t >= a.output.dim(1)) continue;
      kernels.Run(context, k, strip.raw(), a.bias,
                  a.output.Select(0, b).Select(0, t).Slice(0, y, y + rows).raw());
    }
  }
}

void ConvolveStrips(Context& context, const Operands& a) {
  const Shape& weight = a.weight.shape();
  const StripPlan plan(a.input.shape(), SizeOf(a.input.dtype()), weight, a.options.padding);
  const auto kernels_for = [&](int64_t rows) {
    return plan.Kernels(rows, weight, a.types(), a.bias != nullptr, a.options.accumulate);
  };
  FrameKernels kernels = kernels_for(plan.rows), last_kernels = kernels_for(plan.last_rows);
  kernels.PackWeights(context, a.weight);
  if (kernels.SharesWeights(last_kernels)) {
    last_kernels.TakeWeights(kernels);
  } else {
    last_kernels.PackWeights(context, a.weight);
  }
  const TensorView strip = context.workspace().Allocate(
      {plan.rows + weight[3] - 1, plan.width, weight[1]}, a.input.dtype());
  for (int64_t b = 0; b < a.input.dim(0); ++b) {
    for (int64_t y = 0; y < plan.height; y += plan.rows) {
      const bool last = y + plan.rows >= plan.height;
      const int64_t rows = last ? plan.last_rows : plan.rows;
      ConvolveStrip(context, a, last ? last_kernels : kernels, b, y, rows,
                    strip.Slice(0, 0, rows + weight[3] - 1));
    }
  }
}

}  // namespace

namespace cpu {

void Conv3d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView output) {
  Workspace::Scope scope(context.workspace());
  const OnednnThreads threads(context);
  const ConstTensorView weights(
      WidenedData(context, weight), DType::kF32, weight.shape(),
      weight.dtype() == DType::kF32 ? weight.strides() : weight.shape().ContiguousStrides());
  const DType type = OnednnProductType(context);
  const ConstTensorView frames = InType(context, input, type);
  const float* biases = WidenedData(context, bias);
  const auto convolve = [&](const TensorView& to) {
    const Operands operands{frames, weights, biases, options, to};
    WithOnednnErrors("convolution", [&] {
      const bool needs_strips = NeedsStrips(options.padding, !options.input_gain.empty());
      (needs_strips ? ConvolveStrips : ConvolveFrames)(context, operands);
    });
  };
  if (type == DType::kBF16) return convolve(output);
  WithWideOutput(context, output, /*keeps=*/options.accumulate, convolve);
}

}  // namespace cpu

}  // namespace tamias
