// Entry of the upsampling convolution in time and space: checks, then the device's implementation.
#include "ops/upsample_conv3d.h"

#include <string_view>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "upsample conv3d";

void CheckFilms(const Context& context, std::string_view argument, const ConstTensorView& view,
                const Shape& shape) {
  CheckActivations(context, kName, argument, view, shape);
  if (view.dim(0) > 0 && view.dim(1) > 0) {
    CheckContiguous(kName, argument, view.Select(0, 0).Select(0, 0));
  }
}

void CheckArguments(const Context& context, const ConstTensorView& input,
                    const ConstTensorView& weight, const ConstTensorView& bias,
                    const UpsampleConv3dOptions& options, const TensorView& output) {
  CheckFilms(context, "input", input, {-1, -1, -1, -1, -1});
  CheckWeight(context, kName, "weight", weight, {-1, input.dim(4), -1, 3, 3});
  CheckContiguous(kName, "weight", weight);
  CheckOptionalWeight(context, kName, "bias", bias, weight.dim(0));
  if (input.dim(1) == 0 || weight.dim(2) == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: input: expected a frame and a kernel of one, found {} and {}", kName, input.dim(1),
         weight.dim(2));
  }
  CheckFilms(context, "output", output,
             {input.dim(0), UpsampledFrames(input.dim(1), options.doubles_frames), 2 * input.dim(2),
              2 * input.dim(3), weight.dim(0)});
}

}  // namespace

void UpsampleConv3d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView output) {
  CheckArguments(context, input, weight, bias, options, output);
  if (output.NumElements() == 0) return;
  Workspace::Scope scope(context.workspace());
  TensorView scratch;
  if (context.IsOnGpu()) {
    scratch = context.workspace().AllocateBytes(cuda::UpsampleConv3dScratchBytes(weight));
  }
  DispatchWithCpuScratch(
      context, [&] { cpu::UpsampleConv3d(context, input, weight, bias, options, output); },
      [&](cuda::Stream& stream) {
        cuda::UpsampleConv3d(stream, input, weight, bias, options, scratch, output);
      });
}

}  // namespace tamias
