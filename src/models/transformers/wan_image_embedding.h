// The picture's tokens as Wan's image-to-video transformer attends to them: learned positions (in
// models that take a first and a last picture), a layer norm, an MLP and a layer norm (diffusers'
// WanImageEmbedding). Symbols: B batch, K tokens of the vision encoder, C image_dim, d model width.
#pragma once

#include <cstdint>

#include "models/linear_layer.h"
#include "tamias/context.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class WanImageEmbedding {
 public:
  WanImageEmbedding() = default;
  // positions: tokens that have a learned position, all of them, or 0: none.
  static WanImageEmbedding Load(const Weights& weights, int64_t image_dim, int64_t model_dim,
                                int64_t positions);

  // tokens [B, K, C] f32 -> image [B, K, d] f32; K is the number of positions where there are any.
  void operator()(Context& context, ConstTensorView tokens, TensorView image) const;

 private:
  NormLayer norm1_, norm2_;
  LinearLayer fc1_, fc2_;      // [C, C], [d, C]
  ConstTensorView positions_;  // [K, C], or empty
};

}  // namespace tamias
