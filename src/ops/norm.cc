// Entry of the normalisations: checks, then the device's implementation.
#include "ops/norm.h"

#include <string_view>

#include "ops/check_tensor.h"

namespace tamias {
namespace {

void CheckActivation(std::string_view operation, std::string_view argument,
                     const ConstTensorView& view, const Shape& shape) {
  CheckTensor(operation, argument, view, DType::kF32, shape);
  CheckUnitStride(operation, argument, view);
}

void CheckRows(std::string_view operation, const ConstTensorView& input,
               const ConstTensorView& output) {
  if (input.rank() < 1) {
    Fail(ErrorCode::kInvalidArgument, "{}: input: expected at least one axis, found none",
         operation);
  }
  CheckActivation(operation, "input", input, input.shape());
  CheckActivation(operation, "output", output, input.shape());
}

void CheckOptionalWeight(std::string_view operation, std::string_view argument,
                         const ConstTensorView& view, int64_t size) {
  if (view.empty()) return;
  CheckWeight(operation, argument, view, {size});
  CheckUnitStride(operation, argument, view);
}

// [B, H, W, C], each picture contiguous.
void CheckPictures(std::string_view operation, std::string_view argument,
                   const ConstTensorView& view, const Shape& shape) {
  CheckTensor(operation, argument, view, DType::kF32, shape);
  if (view.dim(0) > 0) CheckContiguous(operation, argument, view.Select(0, 0));
}

void CheckPictureRows(std::string_view operation, std::string_view argument,
                      const ConstTensorView& view, const Shape& shape) {
  CheckTensor(operation, argument, view, DType::kF32, shape);
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

}  // namespace

void LayerNorm(Context& context, ConstTensorView input, ConstTensorView weight,
               ConstTensorView bias, float epsilon, TensorView output) {
  if (context.IsOnGpu()) {
    return cuda::LayerNorm(context.stream(), input, weight, bias, epsilon, output);
  }
  CheckRows("layer norm", input, output);
  CheckOptionalWeight("layer norm", "weight", weight, input.dim(-1));
  CheckOptionalWeight("layer norm", "bias", bias, input.dim(-1));
  cpu::LayerNorm(context, input, weight, bias, epsilon, output);
}

void LayerNormModulate(Context& context, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output) {
  if (context.IsOnGpu()) {
    return cuda::LayerNormModulate(context.stream(), input, shift, scale, epsilon, output);
  }
  CheckActivation("layer norm modulate", "input", input, {-1, -1, -1});
  CheckActivation("layer norm modulate", "output", output, input.shape());
  CheckActivation("layer norm modulate", "shift", shift, {input.dim(0), input.dim(2)});
  CheckActivation("layer norm modulate", "scale", scale, {input.dim(0), input.dim(2)});
  cpu::LayerNormModulate(context, input, shift, scale, epsilon, output);
}

void RmsNorm(Context& context, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output) {
  if (context.IsOnGpu()) {
    return cuda::RmsNorm(context.stream(), input, weight, epsilon, output);
  }
  CheckRows("rms norm", input, output);
  CheckOptionalWeight("rms norm", "weight", weight, input.dim(-1));
  cpu::RmsNorm(context, input, weight, epsilon, output);
}

void GroupNorm(Context& context, ConstTensorView input, int64_t groups, ConstTensorView weight,
               ConstTensorView bias, float epsilon, bool silu, TensorView output) {
  if (!context.IsOnGpu()) {
    CheckPictures("group norm", "input", input, {-1, -1, -1, -1});
    CheckPictures("group norm", "output", output, input.shape());
  }
  Workspace::Scope scope(context.workspace());
  const TensorView gain = context.workspace().Allocate({input.dim(0), input.dim(3)}, DType::kF32);
  const TensorView offset = context.workspace().Allocate({input.dim(0), input.dim(3)}, DType::kF32);
  GroupNormStatistics(context, input, groups, weight, bias, epsilon, gain, offset);
  ScaleShiftChannels(context, input, gain, offset, silu, output);
}

void GroupNormStatistics(Context& context, ConstTensorView input, int64_t groups,
                         ConstTensorView weight, ConstTensorView bias, float epsilon,
                         TensorView gain, TensorView offset) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const size_t bytes = cuda::GroupNormStatisticsScratchBytes(input.shape(), groups);
    return cuda::GroupNormStatistics(context.stream(), input, groups, weight, bias, epsilon,
                                     context.workspace().AllocateBytes(bytes), gain, offset);
  }
  CheckPictures("group norm", "input", input, {-1, -1, -1, -1});
  CheckGroups(groups, input.dim(3));
  CheckOptionalWeight("group norm", "weight", weight, input.dim(3));
  CheckOptionalWeight("group norm", "bias", bias, input.dim(3));
  for (const TensorView& view : {gain, offset}) {
    CheckTensor("group norm", "gain and offset", view, DType::kF32, {input.dim(0), input.dim(3)});
    CheckContiguous("group norm", "gain and offset", view);
  }
  cpu::GroupNormStatistics(context, input, groups, weight, bias, epsilon, gain, offset);
}

void ScaleShiftChannels(Context& context, ConstTensorView input, ConstTensorView gain,
                        ConstTensorView offset, bool silu, TensorView output) {
  if (context.IsOnGpu()) {
    return cuda::ScaleShiftChannels(context.stream(), input, gain, offset, silu, output);
  }
  CheckPictureRows("scale shift channels", "input", input, {-1, -1, -1, -1});
  CheckPictureRows("scale shift channels", "output", output, input.shape());
  for (const ConstTensorView& view : {gain, offset}) {
    CheckTensor("scale shift channels", "gain and offset", view, DType::kF32,
                {input.dim(0), input.dim(3)});
    CheckContiguous("scale shift channels", "gain and offset", view);
  }
  cpu::ScaleShiftChannels(context, input, gain, offset, silu, output);
}

}  // namespace tamias
