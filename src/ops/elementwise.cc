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
  CheckFloats("add", "a", a, a.shape());
  CheckFloats("add", "b", b, a.shape());
  CheckFloats("add", "output", output, a.shape());
  cpu::Add(context, a, b, output);
}

void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  CheckFloats("multiply", "a", a, a.shape());
  CheckFloats("multiply", "b", b, a.shape());
  CheckFloats("multiply", "output", output, a.shape());
  cpu::Multiply(context, a, b, output);
}

void Axpy(Context& context, float factor, ConstTensorView x, TensorView y) {
  CheckFloats("axpy", "x", x, x.shape());
  CheckFloats("axpy", "y", y, x.shape());
  cpu::Axpy(context, factor, x, y);
}

void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output) {
  CheckFloats("scale shift", "input", input, input.shape());
  CheckFloats("scale shift", "output", output, input.shape());
  cpu::ScaleShift(context, input, factor, offset, output);
}

void ConvertToFloat(Context& context, ConstTensorView input, TensorView output) {
  CheckWeight("convert to float", "input", input, input.shape());
  CheckUnitStride("convert to float", "input", input);
  CheckFloats("convert to float", "output", output, input.shape());
  cpu::ConvertToFloat(context, input, output);
}

void ConvertToBFloat16(Context& context, ConstTensorView input, TensorView output) {
  CheckFloats("convert to bf16", "input", input, input.shape());
  CheckTensor("convert to bf16", "output", output, DType::kBF16, input.shape());
  CheckUnitStride("convert to bf16", "output", output);
  cpu::ConvertToBFloat16(context, input, output);
}

}  // namespace tamias
