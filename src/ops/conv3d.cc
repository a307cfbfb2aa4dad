// Entry of the convolution in time and space: checks, then the device's implementation.
#include "ops/conv3d.h"

#include <string_view>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "conv3d";

void CheckFilms(const Context& context, std::string_view argument, const ConstTensorView& view,
                const Shape& shape) {
  CheckActivations(context, kName, argument, view, shape);
  if (view.dim(0) > 0 && view.dim(1) > 0) {
    CheckContiguous(kName, argument, view.Select(0, 0).Select(0, 0));
  }
}

void CheckScaling(const Context& context, const Conv3dOptions& options, const Shape& input) {
  if (options.input_gain.empty() && options.input_offset.empty()) return;
  const bool is_shared = options.input_gain.rank() == 3 && options.input_gain.dim(1) == 1;
  const Shape shape = {input[0], is_shared ? 1 : input[1], input[4]};
  CheckList(context, kName, "input_gain", options.input_gain, DType::kF32, shape);
  CheckList(context, kName, "input_offset", options.input_offset, DType::kF32, shape);
}

// The output's size along one axis, from the input's, the kernel's and the padding on either side.
int64_t OutputSize(int64_t size, int64_t kernel, int64_t before, int64_t after, PaddingMode mode) {
  for (const int64_t side : {before, after}) {
    CheckAtLeast(kName, "padding", side, 0);
    if (mode == PaddingMode::kReplicate && side >= kernel) {
      Fail(ErrorCode::kInvalidArgument,
           "conv3d: padding: expected less than the kernel ({}), found {}", kernel, side);
    }
  }
  const int64_t result = size + before + after - kernel + 1;
  if (size < 1 || result < 1) {
    Fail(ErrorCode::kInvalidArgument,
         "conv3d: input: expected at least {} along each axis with padding, found {}", kernel,
         size + before + after);
  }
  return result;
}

void CheckArguments(const Context& context, const ConstTensorView& input,
                    const ConstTensorView& weight, const ConstTensorView& bias,
                    const Conv3dOptions& options, const TensorView& output) {
  CheckFilms(context, "input", input, {-1, -1, -1, -1, -1});
  CheckWeight(context, kName, "weight", weight, {-1, input.dim(4), -1, -1, -1});
  CheckUnitStride(kName, "weight", weight);
  CheckOptionalWeight(context, kName, "bias", bias, weight.dim(0));
  CheckScaling(context, options, input.shape());
  const Padding3d& p = options.padding;
  CheckFilms(context, "output", output,
             {input.dim(0), OutputSize(input.dim(1), weight.dim(2), p.front, p.back, p.mode),
              OutputSize(input.dim(2), weight.dim(3), p.top, p.bottom, p.mode),
              OutputSize(input.dim(3), weight.dim(4), p.left, p.right, p.mode), weight.dim(0)});
}

}  // namespace

void Conv3d(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            const Conv3dOptions& options, TensorView output) {
  CheckArguments(context, input, weight, bias, options, output);
  if (output.NumElements() == 0) return;
  Workspace::Scope scope(context.workspace());
  TensorView scratch;
  if (context.IsOnGpu()) {
    scratch = context.workspace().AllocateBytes(
        cuda::Conv3dScratchBytes(input.shape(), weight, !options.input_gain.empty()));
  }
  DispatchWithCpuScratch(
      context, [&] { cpu::Conv3d(context, input, weight, bias, options, output); },
      [&](cuda::Stream& stream) {
        cuda::Conv3d(stream, input, weight, bias, options, scratch, output);
      });
}

}  // namespace tamias
