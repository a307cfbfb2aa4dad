// Entry of the conversion from 8-bit floats: checks, then the device's implementation.
#include "ops/dequantise.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void Dequantise(Context& context, ConstTensorView matrix, TensorView output) {
  constexpr std::string_view kName = "dequantise";
  CheckMatrix(context, kName, "matrix", matrix, {-1, -1});
  CheckTensor(kName, "matrix", matrix, DType::kF8E4M3, {-1, -1});
  CheckUnitStride(kName, "matrix", matrix);
  CheckActivations(context, kName, "output", output, matrix.shape());
  CheckContiguous(kName, "output", output);
  Dispatch(
      context, [&] { cpu::Dequantise(context, matrix, output); },
      [&](cuda::Stream& stream) { cuda::Dequantise(stream, matrix, output); });
}

ConstTensorView Dequantised(Context& context, ConstTensorView matrix) {
  if (matrix.dtype() != DType::kF8E4M3) return matrix;
  const TensorView output =
      context.workspace().Allocate(matrix.shape(), context.activation_dtype());
  Dequantise(context, matrix, output);
  return output;
}

}  // namespace tamias
