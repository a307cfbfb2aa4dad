// Matrices in 8-bit floats: weight[n, k] is about scale[n] code[n, k], the codes e4m3, rounded to
// nearest even. A row's scale is the least power of two with which its largest element is within
// the codes' range of 448: a product with it is exact, so that bf16 holds every scaled code, and
// values that were e4m3 before stay as they were. As floats, codes gain nothing from a scale in
// between.
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
