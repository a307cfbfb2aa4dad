// Entry of the dense layer: checks, then the device's implementation.
#include "ops/linear.h"

#include "ops/check_tensor.h"
#include "ops/cuda/cublas_lt.h"
#include "ops/elementwise.h"

namespace tamias {
namespace {

// The view itself, or its values in another type, valid in the caller's workspace scope.
ConstTensorView InType(Context& context, ConstTensorView view, DType dtype) {
  if (view.empty() || view.dtype() == dtype) return view;
  const TensorView converted = context.workspace().Allocate(view.shape(), dtype);
  Convert(context, view, converted);
  return converted;
}

void LinearOnGpu(Context& context, ConstTensorView input, ConstTensorView weight,
                 ConstTensorView bias, TensorView output, LinearOptions options) {
  Workspace::Scope scope(context.workspace());
  const ConstTensorView typed_input = InType(context, input, weight.dtype());
  const ConstTensorView typed_bias = InType(context, bias, output.dtype());
  const TensorView scratch = context.workspace().AllocateBytes(cuda::CublasLt::kScratchBytes);
  if (context.IsPlanning()) return;
  cuda::Linear(context.resources().Get<cuda::CublasLt>(), context.stream(), typed_input, weight,
               typed_bias, scratch, output, options);
}

}  // namespace

void Linear(Context& context, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
            TensorView output, LinearOptions options) {
  if (context.IsOnGpu()) return LinearOnGpu(context, input, weight, bias, output, options);
  if (input.rank() < 1) {
    Fail(ErrorCode::kInvalidArgument, "linear: input: expected at least one axis, found none");
  }
  CheckTensor("linear", "input", input, DType::kF32, input.shape());
  CheckUnitStride("linear", "input", input);
  CheckWeight("linear", "weight", weight, {-1, input.dim(-1)});
  CheckUnitStride("linear", "weight", weight);
  if (!bias.empty()) {
    CheckWeight("linear", "bias", bias, {weight.dim(0)});
    CheckUnitStride("linear", "bias", bias);
  }
  Shape shape = input.shape();
  shape[shape.rank() - 1] = weight.dim(0);
  CheckTensor("linear", "output", output, DType::kF32, shape);
  CheckUnitStride("linear", "output", output);
  cpu::Linear(context, input, weight, bias, output, options);
}

}  // namespace tamias
