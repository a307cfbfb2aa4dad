// Weights of the two layers every model is made of, by their names in a checkpoint. Views into the
// mapped files; nothing is copied.
#pragma once

#include <cstdint>
#include <string>

#include "tamias/context.h"
#include "tamias/ops/linear.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

struct LinearLayer {
  ConstTensorView weight;  // [out, in] f32, f16, bf16, or fp8_e4m3 with scales of its rows
  ConstTensorView bias;    // [out], or empty

  // Reads "<name>.weight" [out, in] and, when it has one, "<name>.bias" [out].
  static LinearLayer Load(const Weights& weights, const std::string& name, int64_t in, int64_t out,
                          bool has_bias = true);

  // output [..., out] = act(input [..., in] W^T + b) (+ output)
  void operator()(Context& context, ConstTensorView input, TensorView output,
                  LinearOptions options = {}) const {
    Linear(context, input, weight, bias, output, options);
  }
};

struct NormLayer {
  ConstTensorView weight;  // [d]
  ConstTensorView bias;    // [d], or empty for an RMS norm

  // Reads "<name>.weight" [d] and, when it has one, "<name>.bias" [d].
  static NormLayer Load(const Weights& weights, const std::string& name, int64_t dim,
                        bool has_bias = true);
};

}  // namespace tamias
