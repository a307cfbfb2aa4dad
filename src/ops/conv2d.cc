// Entry of the convolution: checks, then the device's implementation.
#include "ops/conv2d.h"

#include <string_view>

#include "ops/check_tensor.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "conv2d";

void CheckPictures(std::string_view argument, const ConstTensorView& view, const Shape& shape) {
  CheckTensor(kName, argument, view, DType::kF32, shape);
  if (view.dim(0) > 0) CheckContiguous(kName, argument, view.Select(0, 0));
}

void CheckScaling(const Conv2dOptions& options, const Shape& shape) {
  if (options.input_gain.empty() && options.input_offset.empty()) return;
  CheckTensor(kName, "input_gain", options.input_gain, DType::kF32, shape);
  CheckTensor(kName, "input_offset", options.input_offset, DType::kF32, shape);
  CheckContiguous(kName, "input_gain", options.input_gain);
  CheckContiguous(kName, "input_offset", options.input_offset);
}

void CheckPadding(const ConstTensorView& input, const ConstTensorView& weight,
                  const Padding& padding) {
  for (const int64_t side : {padding.top, padding.bottom, padding.left, padding.right}) {
    if (side < 0) {
      Fail(ErrorCode::kInvalidArgument, "conv2d: padding: expected at least 0, found {}", side);
    }
  }
  const int64_t height = input.dim(1) + padding.top + padding.bottom;
  const int64_t width = input.dim(2) + padding.left + padding.right;
  if (height < weight.dim(2) || width < weight.dim(3)) {
    Fail(ErrorCode::kInvalidArgument,
         "conv2d: input: expected at least {} x {} pixels with padding, found {} x {}",
         weight.dim(2), weight.dim(3), height, width);
  }
}

}  // namespace

void Conv2d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv2dOptions& options, TensorView output) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const size_t bytes =
        cuda::Conv2dScratchBytes(input.shape(), weight, !options.input_gain.empty());
    return cuda::Conv2d(context.stream(), input, weight, bias, options,
                        context.workspace().AllocateBytes(bytes), output);
  }
  CheckPictures("input", input, {-1, -1, -1, -1});
  CheckWeight(kName, "weight", weight, {-1, input.dim(3), -1, -1});
  CheckContiguous(kName, "weight", weight);
  if (!bias.empty()) {
    CheckWeight(kName, "bias", bias, {weight.dim(0)});
    CheckUnitStride(kName, "bias", bias);
  }
  CheckPadding(input, weight, options.padding);
  CheckScaling(options, {input.dim(0), input.dim(3)});
  const Padding& padding = options.padding;
  CheckPictures("output", output,
                {input.dim(0), input.dim(1) + padding.top + padding.bottom - weight.dim(2) + 1,
                 input.dim(2) + padding.left + padding.right - weight.dim(3) + 1, weight.dim(0)});
  if (output.NumElements() > 0) cpu::Conv2d(context, input, weight, bias, options, output);
}

}  // namespace tamias
