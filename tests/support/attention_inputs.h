// What the tests of dense and column-sparse attention share: operands as models hand them over, and
// how far results may be off.
#pragma once

#include <cmath>

#include "ops/attention.h"
#include "tamias/tensor.h"
#include "tests/support/compare_tensors.h"
#include "tests/support/random_tensors.h"

namespace tamias {

// fp32 sums of up to a few hundred terms of size 1 in another order than the reference's: about
// sqrt(300) * 6e-8, with room; relative to the largest value of the output.
constexpr float kTolerance = 1e-5f;

// query, key and value of [B, N, H, D] storage seen as [B, H, N, D]: strided, as models hand them
// over; scale 1 / sqrt(D).
inline AttentionInputs StridedInputs(const Tensor& query, const Tensor& key, const Tensor& value) {
  return {.query = query.view().Permute({0, 2, 1, 3}),
          .key = key.view().Permute({0, 2, 1, 3}),
          .value = value.view().Permute({0, 2, 1, 3}),
          .scale = 1.0f / std::sqrt(static_cast<float>(query.dim(3)))};
}

}  // namespace tamias
