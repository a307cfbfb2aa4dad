// Entry of the element-wise operations: checks, then the device's implementation.
#include "ops/elementwise.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

void CheckThree(const Context& context, std::string_view operation, const ConstTensorView& a,
                const ConstTensorView& b, const ConstTensorView& output) {
  CheckActivationRows(context, operation, "a", a, a.shape());
  CheckActivationRows(context, operation, "b", b, a.shape());
  CheckActivationRows(context, operation, "output", output, a.shape());
}

}  // namespace

void Add(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  CheckThree(context, "add", a, b, output);
  Dispatch(
      context, [&] { cpu::Add(context, a, b, output); },
      [&](cuda::Stream& stream) { cuda::Add(stream, a, b, output); });
}

void Multiply(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  CheckThree(context, "multiply", a, b, output);
  Dispatch(
      context, [&] { cpu::Multiply(context, a, b, output); },
      [&](cuda::Stream& stream) { cuda::Multiply(stream, a, b, output); });
}

void AbsoluteDifference(Context& context, ConstTensorView a, ConstTensorView b, TensorView output) {
  CheckThree(context, "absolute difference", a, b, output);
  Dispatch(
      context, [&] { cpu::AbsoluteDifference(context, a, b, output); },
      [&](cuda::Stream& stream) { cuda::AbsoluteDifference(stream, a, b, output); });
}

void Axpy(Context& context, float factor, ConstTensorView x, TensorView y) {
  CheckActivationRows(context, "axpy", "x", x, x.shape());
  CheckActivationRows(context, "axpy", "y", y, x.shape());
  Dispatch(
      context, [&] { cpu::Axpy(context, factor, x, y); },
      [&](cuda::Stream& stream) { cuda::Axpy(stream, factor, x, y); });
}

void ScaleShift(Context& context, ConstTensorView input, float factor, float offset,
                TensorView output) {
  CheckActivationRows(context, "scale shift", "input", input, input.shape());
  CheckActivationRows(context, "scale shift", "output", output, input.shape());
  Dispatch(
      context, [&] { cpu::ScaleShift(context, input, factor, offset, output); },
      [&](cuda::Stream& stream) { cuda::ScaleShift(stream, input, factor, offset, output); });
}

void Convert(Context& context, ConstTensorView input, TensorView output) {
  CheckWeight(context, "convert", "input", input, input.shape());
  CheckUnitStride("convert", "input", input);
  CheckUnitStride("convert", "output", output);
  const bool narrows = input.dtype() == DType::kF32 && output.dtype() == DType::kBF16;
  if (narrows) {
    CheckTensor(context, "convert", "output", output, DType::kBF16, input.shape());
  } else {
    CheckActivations(context, "convert", "output", output, input.shape());
  }
  Dispatch(
      context, [&] { cpu::Convert(context, input, output); },
      [&](cuda::Stream& stream) { cuda::Convert(stream, input, output); });
}

}  // namespace tamias
