// Entry of the element-wise operations: checks, then the device's implementation.
#include "ops/elementwise.h"

#include "ops/check_tensor.h"

namespace tamias {
namespace {

void CheckFloats(const char* operation, const char* argument, const ConstTensorView& view,
                 const Shape& shape) {
  CheckTensor(operation, argument, view, DType::kF32, shape);
  CheckUnitStride(operation, argument, view);
}

}  // namespace

void Add(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  if (context.IsOnGpu()) return cuda::Add(context.stream(), a, b, output);
  CheckFloats("add", "a", a, a.shape());
  CheckFloats("add", "b", b, a.shape());
  CheckFloats("add", "output", output, a.shape());
  cpu::Add(context, a, b, output);
}

void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  if (context.IsOnGpu()) return cuda::Multiply(context.stream(), a, b, output);
  CheckFloats("multiply", "a", a, a.shape());
  CheckFloats("multiply", "b", b, a.shape());
  CheckFloats("multiply", "output", output, a.shape());
  cpu::Multiply(context, a, b, output);
}

void AbsoluteDifference(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  if (context.IsOnGpu()) return cuda::AbsoluteDifference(context.stream(), a, b, output);
  CheckFloats("absolute difference", "a", a, a.shape());
  CheckFloats("absolute difference", "b", b, a.shape());
  CheckFloats("absolute difference", "output", output, a.shape());
  cpu::AbsoluteDifference(context, a, b, output);
}

void Axpy(Context& context, float factor, ConstTensorView x, TensorView y) {
  if (context.IsOnGpu()) return cuda::Axpy(context.stream(), factor, x, y);
  CheckFloats("axpy", "x", x, x.shape());
  CheckFloats("axpy", "y", y, x.shape());
  cpu::Axpy(context, factor, x, y);
}

void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output) {
  if (context.IsOnGpu()) {
    return cuda::ScaleShift(context.stream(), input, factor, offset, output);
  }
  CheckFloats("scale shift", "input", input, input.shape());
  CheckFloats("scale shift", "output", output, input.shape());
  cpu::ScaleShift(context, input, factor, offset, output);
}

void Convert(Context& context, ConstTensorView input, TensorView output) {
  if (context.IsOnGpu()) return cuda::Convert(context.stream(), input, output);
  CheckWeight("convert", "input", input, input.shape());
  CheckUnitStride("convert", "input", input);
  CheckUnitStride("convert", "output", output);
  const bool narrows = input.dtype() == DType::kF32 && output.dtype() == DType::kBF16;
  CheckTensor("convert", "output", output, narrows ? DType::kBF16 : DType::kF32, input.shape());
  cpu::Convert(context, input, output);
}

}  // namespace tamias
