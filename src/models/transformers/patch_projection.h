// The last linear layer of a video transformer, from tokens to patches of latent pixels. diffusers'
// Mochi and Wan take a patch in the order (channel, place in the patch) but give it back as (place,
// channel): here the rows are brought into the order of the input, so that a prediction and the
// packed latents it moves agree element by element.
#pragma once

#include <cstdint>
#include <string>

#include "models/linear_layer.h"

namespace tamias {

class PatchProjection {
 public:
  PatchProjection() = default;

  // Reads "<name>.weight" [places * channels, in] and "<name>.bias" [places * channels].
  static PatchProjection Load(const Weights& weights, const std::string& name, int64_t in,
                              int64_t channels, int64_t places);

  // output [..., channels * places] = input [..., in] W^T + b
  void operator()(Context& context, ConstTensorView input, TensorView output) const;

 private:
  LinearLayer layer_;
  int64_t channels_ = 0;
  int64_t places_ = 0;
};

}  // namespace tamias
