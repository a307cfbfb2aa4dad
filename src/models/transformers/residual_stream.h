// The residual stream x [B, N, d] of a transformer, f32, between the parts of its blocks. What a
// part adds to it, gate * branch, is left here and added by the norm that reads the sum, so that x
// is read and written once for both.
#pragma once

#include <utility>

#include "ops/residual.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

class ResidualStream {
 public:
  explicit ResidualStream(TensorView x) : x_(x) {}

  // gate [B, d] and branch [B, N, d] stay as they are until the sum is taken.
  void Leave(ConstTensorView gate, TensorView branch) {
    gate_ = gate;
    branch_ = branch;
  }
  // The sum and its norm, for ResidualNorm.
  ResidualRows Normed(ConstTensorView gain, ConstTensorView offset, TensorView output) {
    return {.x = x_,
            .gate = std::exchange(gate_, {}),
            .branch = std::exchange(branch_, {}),
            .gain = gain,
            .offset = offset,
            .output = output};
  }
  // x, once the sum has been taken.
  TensorView Summed(Context& context, const ResidualNormOptions& options = {}) {
    if (!branch_.empty()) {
      const ResidualRows rows = Normed({}, {}, {});
      ResidualNorm(context, {&rows, 1}, options);
    }
    return x_;
  }

 private:
  TensorView x_;
  ConstTensorView gate_;
  TensorView branch_;
};

}  // namespace tamias
