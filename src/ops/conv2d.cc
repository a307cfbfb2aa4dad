// Entry of the convolution: checks, then the device's implementation.
#include "ops/conv2d.h"

#include <string_view>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/conv3d.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "conv2d";

void CheckPictures(const Context& context, std::string_view argument, const ConstTensorView& view,
                   const Shape& shape) {
  CheckActivations(context, kName, argument, view, shape);
  if (view.dim(0) > 0) CheckContiguous(kName, argument, view.Select(0, 0));
}

void CheckScaling(const Context& context, const Conv2dOptions& options, const Shape& shape) {
  if (options.input_gain.empty() && options.input_offset.empty()) return;
  CheckList(context, kName, "input_gain", options.input_gain, DType::kF32, shape);
  CheckList(context, kName, "input_offset", options.input_offset, DType::kF32, shape);
}

void CheckPadding(const ConstTensorView& input, const ConstTensorView& weight,
                  const Padding& padding) {
  for (const int64_t side : {padding.top, padding.bottom, padding.left, padding.right}) {
    CheckAtLeast(kName, "padding", side, 0);
  }
  const int64_t height = input.dim(1) + padding.top + padding.bottom;
  const int64_t width = input.dim(2) + padding.left + padding.right;
  if (height < weight.dim(2) || width < weight.dim(3)) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: input: expected at least {} x {} pixels with padding, found {} x {}", kName,
         weight.dim(2), weight.dim(3), height, width);
  }
}

void CheckArguments(const Context& context, const ConstTensorView& input,
                    const ConstTensorView& weight, const ConstTensorView& bias,
                    const Conv2dOptions& options, const TensorView& output) {
  CheckPictures(context, "input", input, {-1, -1, -1, -1});
  CheckWeight(context, kName, "weight", weight, {-1, input.dim(3), -1, -1});
  CheckContiguous(kName, "weight", weight);
  CheckOptionalWeight(context, kName, "bias", bias, weight.dim(0));
  CheckPadding(input, weight, options.padding);
  CheckScaling(context, options, {input.dim(0), input.dim(3)});
  const Padding& padding = options.padding;
  CheckPictures(context, "output", output,
                {input.dim(0), input.dim(1) + padding.top + padding.bottom - weight.dim(2) + 1,
                 input.dim(2) + padding.left + padding.right - weight.dim(3) + 1, weight.dim(0)});
}

}  // namespace

void Conv2d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output) {
  CheckArguments(context, input, weight, bias, options, output);
  if (output.NumElements() == 0) return;
  Workspace::Scope scope(context.workspace());
  TensorView scratch;
  if (context.IsOnGpu()) {
    scratch = context.workspace().AllocateBytes(
        cuda::Conv2dScratchBytes(input.shape(), weight, !options.input_gain.empty()));
  }
  DispatchWithCpuScratch(
      context, [&] { cpu::Conv2d(context, input, weight, bias, options, output); },
      [&](cuda::Stream& stream) {
        cuda::Conv2d(stream, input, weight, bias, options, scratch, output);
      });
}

}  // namespace tamias
