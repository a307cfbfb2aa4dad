// Embeds scalars (timestep, guidance scale) as sines and cosines, and the small MLP
// y = W2 silu(W1 x + b1) + b2 that conditions a diffusion transformer on them (Ho et al.,
// 2006.11239; diffusers' Timesteps and TimestepEmbedding).
#pragma once

#include <cstdint>
#include <string>

#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// embedding [B, C] f32, every row the same: cos(value f_i), then sin(value f_i), with
// f_i = 10000^(-i / (C / 2)), i < C / 2. On the context's device, computed by the host.
void SinusoidalEmbedding(Context& context, float value, TensorView embedding);

struct TimestepEmbedding {
  LinearLayer linear_1;
  LinearLayer linear_2;

  // Reads "<name>.linear_1" [dim, in] and "<name>.linear_2" [dim, dim].
  static TimestepEmbedding Load(const Weights& weights, const std::string& name, int64_t in,
                                int64_t dim);

  // output [B, dim] = MLP(input [B, in]), or with `accumulate` added to it.
  void operator()(Context& context, ConstTensorView input, TensorView output,
                  bool accumulate = false) const;
};

}  // namespace tamias
