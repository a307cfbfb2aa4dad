// Layer norm, its modulated form and RMS norm: rows of the kernel in residual.cu, to which nothing
// is added.
#include "ops/norm.h"

#include "ops/cuda/row_norm.h"

namespace tamias::cuda {

void LayerNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, ConstTensorView bias,
               float epsilon, TensorView output) {
  const ResidualRows rows = RowsToNorm(input, weight, bias, output);
  RowNorm(stream, "layer norm", {&rows, 1}, {.norm = NormKind::kLayer, .epsilon = epsilon});
}

void LayerNormModulate(Stream& stream, ConstTensorView input, ConstTensorView shift,
                       ConstTensorView scale, float epsilon, TensorView output) {
  const ResidualRows rows = RowsToNorm(input, scale, shift, output);
  RowNorm(stream, "layer norm modulate", {&rows, 1},
          {.norm = NormKind::kLayer, .epsilon = epsilon, .is_modulation = true});
}

void RmsNorm(Stream& stream, ConstTensorView input, ConstTensorView weight, float epsilon,
             TensorView output) {
  const ResidualRows rows = RowsToNorm(input, weight, {}, output);
  RowNorm(stream, "rms norm", {&rows, 1}, {.norm = NormKind::kRms, .epsilon = epsilon});
}

}  // namespace tamias::cuda
