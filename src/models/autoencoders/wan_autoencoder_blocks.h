// What the encoder and the decoder of Wan 2.1's autoencoder are both made of, by the checkpoint's
// names (diffusers' AutoencoderKLWan). Frames are [1, H, W, C].
#pragma once

#include <cstdint>
#include <string>

#include "models/autoencoders/frame_blocks.h"
#include "models/autoencoders/frame_pass.h"
#include "models/linear_layer.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

// The RMS norm over a pixel's channels that films have: "<name>.gamma" [C, 1, 1, 1].
FrameNorm LoadWanNorm(const Weights& weights, const std::string& name, int64_t channels);

// A convolution of 3 frames x 3 x 3 pixels.
CausalConv LoadWanConv(const Weights& weights, const std::string& name, int64_t in, int64_t out);

// A convolution whose kernel is one pixel: a linear layer. `shape`: of the weight.
LinearLayer LoadPointwise(const Weights& weights, const std::string& name, const Shape& shape);

FrameResidualBlock LoadWanBlock(const Weights& weights, int64_t in, int64_t out);

// x += proj(attention(q, k, v of norm(x))) over the pixels of a frame, one head.
struct WanPixelAttention {
  FrameNorm norm;
  LinearLayer qkv, proj;

  static WanPixelAttention Load(const Weights& weights, int64_t channels);
  void Forward(FramePass& pass, const TensorView& frame) const;
};

// The coarsest level: a residual block, attention, a residual block, in place.
struct WanMiddle {
  FrameResidualBlock block1;
  WanPixelAttention attention;
  FrameResidualBlock block2;

  static WanMiddle Load(const Weights& weights, int64_t channels);
  void Forward(FramePass& pass, const TensorView& frame) const;
};

}  // namespace tamias
