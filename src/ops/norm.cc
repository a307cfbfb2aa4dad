// Entry of the normalisations: checks, then the device's implementation.
#include "ops/norm.h"

#include <string_view>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

void CheckRows(const Context& context, std::string_view operation, const ConstTensorView& input,
               const ConstTensorView& output) {
  if (input.rank() < 1) {
    Fail(ErrorCode::kInvalidArgument, "{}: input: expected at least one axis, found none",
         operation);
  }
  CheckActivationRows(context, operation, "input", input, input.shape());
  CheckActivationRows(context, operation, "output", output, input.shape());
}

// [B, H, W, C], each picture contiguous.
void CheckPictures(const Context& context, std::string_view operation, std::string_view argument,
                   const ConstTensorView& view, const Shape& shape) {
  CheckActivations(context, operation, argument, view, shape);
  if (view.dim(0) > 0) CheckContiguous(operation, argument, view.Select(0, 0));
}

// [B, H, W, C], each row of a picture contiguous.
void CheckPictureRows(const Context& context, std::string_view operation, std::string_view argument,
                      const ConstTensorView& view, const Shape& shape) {
  CheckActivations(context, operation, argument, view, shape);
  if (view.dim(0) > 0 && view.dim(1) > 0) {
    CheckContiguous(operation, argument, view.Select(0, 0).Select(0, 0));
  }
}

void CheckGroups(int64_t groups, int64_t channels) {
  if (groups < 1 || channels % groups != 0) {
    Fail(ErrorCode::kInvalidArgument, "group norm: groups: expected a divisor of {}, found {}",
         channels, groups);
  }
}

void CheckCoefficients(const Context& context, std::string_view operation,
                       const ConstTensorView& input, const ConstTensorView& gain,
                       const ConstTensorView& offset) {
  for (const ConstTensorView& view : {gain, offset}) {
    CheckList(context, operation, "gain and offset", view, DType::kF32,
              {input.dim(0), input.dim(3)});
  }
}

}  // namespace

void LayerNorm(Context& context, ConstTensorView input, ConstTensorView weight,
               ConstTensorView bias, float epsilon, TensorView output) {
  CheckRows(context, "layer norm", input, output);
  CheckOptionalWeight(context, "layer norm", "weight", weight, input.dim(-1));
  CheckOptionalWeight(context, "layer norm", "bias", bias, input.dim(-1));
  DispatchWithCpuScratch(
      context, [&] { cpu::LayerNorm(context, input, weight, bias, epsilon, output); },
      [&](cuda::Stream& stream) { cuda::LayerNorm(stream, input, weight, bias, epsilon, output); });
}

void LayerNormModulate(Context& context, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output) {
  constexpr std::string_view kName = "layer norm modulate";
  CheckActivationRows(context, kName, "input", input, {-1, -1, -1});
  CheckActivationRows(context, kName, "output", output, input.shape());
  CheckActivationRows(context, kName, "shift", shift, {input.dim(0), input.dim(2)});
  CheckActivationRows(context, kName, "scale", scale, {input.dim(0), input.dim(2)});
  DispatchWithCpuScratch(
      context, [&] { cpu::LayerNormModulate(context, input, shift, scale, epsilon, output); },
      [&](cuda::Stream& stream) {
        cuda::LayerNormModulate(stream, input, shift, scale, epsilon, output);
      });
}

void RmsNorm(Context& context, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output) {
  CheckRows(context, "rms norm", input, output);
  CheckOptionalWeight(context, "rms norm", "weight", weight, input.dim(-1));
  DispatchWithCpuScratch(
      context, [&] { cpu::RmsNorm(context, input, weight, epsilon, output); },
      [&](cuda::Stream& stream) { cuda::RmsNorm(stream, input, weight, epsilon, output); });
}

void GroupNorm(Context& context, ConstTensorView input, int64_t groups, ConstTensorView weight,
               ConstTensorView bias, float epsilon, bool silu, TensorView output) {
  CheckPictures(context, "group norm", "input", input, {-1, -1, -1, -1});
  CheckPictures(context, "group norm", "output", output, input.shape());
  Workspace::Scope scope(context.workspace());
  const TensorView gain = context.workspace().Allocate({input.dim(0), input.dim(3)}, DType::kF32);
  const TensorView offset = context.workspace().Allocate({input.dim(0), input.dim(3)}, DType::kF32);
  GroupNormStatistics(context, input, groups, weight, bias, epsilon, gain, offset);
  ScaleShiftChannels(context, input, gain, offset, silu, output);
}

void GroupNormStatistics(Context& context, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView gain, TensorView offset) {
  constexpr std::string_view kName = "group norm";
  CheckPictures(context, kName, "input", input, {-1, -1, -1, -1});
  CheckGroups(groups, input.dim(3));
  CheckOptionalWeight(context, kName, "weight", weight, input.dim(3));
  CheckOptionalWeight(context, kName, "bias", bias, input.dim(3));
  CheckCoefficients(context, kName, input, gain, offset);
  Workspace::Scope scope(context.workspace());
  TensorView scratch;
  if (context.IsOnGpu()) {
    scratch = context.workspace().AllocateBytes(
        cuda::GroupNormStatisticsScratchBytes(input.shape(), groups));
  }
  DispatchWithCpuScratch(
      context,
      [&] {
        cpu::GroupNormStatistics(context, input, groups, weight, bias, epsilon, gain, offset);
      },
      [&](cuda::Stream& stream) {
        cuda::GroupNormStatistics(stream, input, groups, weight, bias, epsilon, scratch, gain,
                                  offset);
      });
}

void ScaleShiftChannels(Context& context, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output) {
  constexpr std::string_view kName = "scale shift channels";
  CheckPictureRows(context, kName, "input", input, {-1, -1, -1, -1});
  CheckPictureRows(context, kName, "output", output, input.shape());
  CheckCoefficients(context, kName, input, gain, offset);
  DispatchWithCpuScratch(
      context, [&] { cpu::ScaleShiftChannels(context, input, gain, offset, silu, output); },
      [&](cuda::Stream& stream) {
        cuda::ScaleShiftChannels(stream, input, gain, offset, silu, output);
      });
}

}  // namespace tamias
