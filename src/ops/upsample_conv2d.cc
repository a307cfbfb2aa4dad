// Entry of the upsampling convolution: checks, then the device's implementation.
#include "ops/upsample_conv2d.h"

#include <string_view>

#include "ops/check_tensor.h"
#include "ops/dispatch.h"
#include "ops/upsample_conv3d.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "upsample conv2d";

void CheckPictures(const Context& context, std::string_view argument, const ConstTensorView& view,
                   const Shape& shape) {
  CheckActivations(context, kName, argument, view, shape);
  if (view.dim(0) > 0) CheckContiguous(kName, argument, view.Select(0, 0));
}

}  // namespace

void UpsampleConv2d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, TensorView output) {
  CheckPictures(context, "input", input, {-1, -1, -1, -1});
  CheckWeight(context, kName, "weight", weight, {-1, input.dim(3), 3, 3});
  CheckContiguous(kName, "weight", weight);
  CheckOptionalWeight(context, kName, "bias", bias, weight.dim(0));
  CheckPictures(context, "output", output,
                {input.dim(0), 2 * input.dim(1), 2 * input.dim(2), weight.dim(0)});
  if (output.NumElements() == 0) return;
  Workspace::Scope scope(context.workspace());
  TensorView scratch;
  if (context.IsOnGpu()) {
    scratch = context.workspace().AllocateBytes(cuda::UpsampleConv2dScratchBytes(weight));
  }
  DispatchWithCpuScratch(
      context, [&] { cpu::UpsampleConv2d(context, input, weight, bias, output); },
      [&](cuda::Stream& stream) {
        cuda::UpsampleConv2d(stream, input, weight, bias, scratch, output);
      });
}

}  // namespace tamias
