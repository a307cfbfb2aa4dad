// Layer norm, its modulated form and RMS norm: rows of the kernel in residual.cu, to which nothing
// is added.
#include "ops/norm.h"

#include "ops/cuda/row_norm.h"

namespace tamias::cuda {
namespace {

ResidualRows RowsOf(const ConstTensorView& input, const ConstTensorView& gain,
                    const ConstTensorView& offset, const TensorView& output) {
  const TensorView x(const_cast<void*>(input.raw()), input.dtype(), input.shape(), input.strides(),
                     input.device());
  return {.x = x, .gate = {}, .branch = {}, .gain = gain, .offset = offset, .output = output};
}

}  // namespace

void LayerNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
               float epsilon, TensorView output) {
  const ResidualRows rows = RowsOf(input, weight, bias, output);
  RowNorm(stream, "layer norm", {&rows, 1}, {.norm = NormKind::kLayer, .epsilon = epsilon});
}

void LayerNormModulate(Stream& stream, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output) {
  const ResidualRows rows = RowsOf(input, scale, shift, output);
  RowNorm(stream, "layer norm modulate", {&rows, 1},
          {.norm = NormKind::kLayer, .epsilon = epsilon, .is_modulation = true});
}

void RmsNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output) {
  const ResidualRows rows = RowsOf(input, weight, {}, output);
  RowNorm(stream, "rms norm", {&rows, 1}, {.norm = NormKind::kRms, .epsilon = epsilon});
}

}  // namespace tamias::cuda
