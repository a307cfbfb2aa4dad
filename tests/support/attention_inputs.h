// What the tests of dense and column-sparse attention share: operands as models hand them over, and
// how far results may be off.
#pragma once

#include <cmath>

#include "ops/attention.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tests/support/bfloat16.h"
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

// Query, key and value in bf16, for the values of which StridedInputs speaks.
struct BFloat16Inputs {
  BFloat16Inputs(const Tensor& query, const Tensor& key, const Tensor& value, bool causal)
      : query_(InBFloat16(query)),
        key_(InBFloat16(key)),
        value_(InBFloat16(value)),
        causal_(causal) {}
  AttentionInputs view() const {
    AttentionInputs inputs = StridedInputs(query_, key_, value_);
    inputs.causal = causal_;
    return inputs;
  }

 private:
  Tensor query_, key_, value_;
  bool causal_;
};

// An output in bf16: weights of the softmax may be rounded to it, which moves the output by half a
// unit in their last place (2^-9) times the values, and so is the output. `parts`: the largest of
// the values, and of what else is added to them.
inline void ExpectNearInBFloat16(const Tensor& found, const Tensor& expected, float parts) {
  ExpectWithin(ToFloat32(found), expected,
               [&](float e) { return 0x1.1p-8f * (parts + std::abs(e)); });
}

}  // namespace tamias
