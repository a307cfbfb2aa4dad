// Entry of the upsampling convolution in time and space: checks, then the device's implementation.
#include "ops/upsample_conv3d.h"

#include <string_view>

#include "ops/check_tensor.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "upsample conv3d";

void CheckFilms(std::string_view argument, const ConstTensorView& view, const Shape& shape) {
  CheckTensor(kName, argument, view, DType::kF32, shape);
  if (view.dim(0) > 0 && view.dim(1) > 0) {
    CheckContiguous(kName, argument, view.Select(0, 0).Select(0, 0));
  }
}

}  // namespace

void UpsampleConv3d(Context& context, ConstTensorView input, ConstTensorView weight,
                    ConstTensorView bias, const UpsampleConv3dOptions& options, TensorView output) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const size_t bytes = cuda::UpsampleConv3dScratchBytes(weight);
    return cuda::UpsampleConv3d(context.stream(), input, weight, bias, options,
                                context.workspace().AllocateBytes(bytes), output);
  }
  CheckFilms("input", input, {-1, -1, -1, -1, -1});
  CheckWeight(kName, "weight", weight, {-1, input.dim(4), -1, 3, 3});
  CheckContiguous(kName, "weight", weight);
  if (!bias.empty()) {
    CheckWeight(kName, "bias", bias, {weight.dim(0)});
    CheckUnitStride(kName, "bias", bias);
  }
  if (input.dim(1) == 0 || weight.dim(2) == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "upsample conv3d: input: expected a frame and a kernel of one, found {} and {}",
         input.dim(1), weight.dim(2));
  }
  CheckFilms("output", output,
             {input.dim(0), UpsampledFrames(input.dim(1), options.doubles_frames), 2 * input.dim(2),
              2 * input.dim(3), weight.dim(0)});
  if (output.NumElements() > 0) cpu::UpsampleConv3d(context, input, weight, bias, options, output);
}

}  // namespace tamias
