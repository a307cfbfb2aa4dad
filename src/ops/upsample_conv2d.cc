// Entry of the upsampling convolution: checks, then the device's implementation.
#include "ops/upsample_conv2d.h"

#include <string_view>

#include "ops/check_tensor.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "upsample conv2d";

void CheckPictures(std::string_view argument, const ConstTensorView& view, const Shape& shape) {
  CheckTensor(kName, argument, view, DType::kF32, shape);
  if (view.dim(0) > 0) CheckContiguous(kName, argument, view.Select(0, 0));
}

}  // namespace

void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const size_t bytes = cuda::UpsampleConv2dScratchBytes(weight);
    return cuda::UpsampleConv2d(context.stream(), input, weight, bias,
                                context.workspace().AllocateBytes(bytes), output);
  }
  CheckPictures("input", input, {-1, -1, -1, -1});
  CheckWeight(kName, "weight", weight, {-1, input.dim(3), 3, 3});
  CheckContiguous(kName, "weight", weight);
  if (!bias.empty()) {
    CheckWeight(kName, "bias", bias, {weight.dim(0)});
    CheckUnitStride(kName, "bias", bias);
  }
  CheckPictures("output", output,
                {input.dim(0), 2 * input.dim(1), 2 * input.dim(2), weight.dim(0)});
  if (output.NumElements() > 0) cpu::UpsampleConv2d(context, input, weight, bias, output);
}

}  // namespace tamias
