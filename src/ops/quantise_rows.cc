// Entry of the conversion to 8-bit floats: checks, then the device's implementation.
#include "ops/quantise_rows.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void QuantiseRows(Context& context, ConstTensorView input, TensorView codes, TensorView scales) {
  constexpr std::string_view kName = "quantise rows";
  CheckWeight(context, kName, "input", input, {-1, -1, -1});
  CheckUnitStride(kName, "input", input);
  CheckList(context, kName, "codes", codes, DType::kF8E4M3, input.shape());
  CheckList(context, kName, "scales", scales, DType::kF32, {input.dim(0), input.dim(1)});
  Dispatch(
      context, [&] { cpu::QuantiseRows(context, input, codes, scales); },
      [&](cuda::Stream& stream) { cuda::QuantiseRows(stream, input, codes, scales); });
}

ConstTensorView MatrixOf(ConstTensorView codes, ConstTensorView scales) {
  return codes.Reshape({codes.dim(0) * codes.dim(1), codes.dim(2)})
      .WithRowScales(scales.data<float>());
}

}  // namespace tamias
