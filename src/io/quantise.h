// Matrices in 8-bit floats: weight[n, k] is about scale[n] code[n, k], each row as
// base/float8_row.h says.
#pragma once

#include <optional>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

struct QuantisedMatrix {
  Tensor codes;   // [N, K] fp8_e4m3
  Tensor scales;  // [N] f32
};

// weight [N, K] f32, f16 or bf16, contiguous, on the host. Nothing where an element is not finite.
std::optional<QuantisedMatrix> Quantise(const Context& context, ConstTensorView weight);

}  // namespace tamias
