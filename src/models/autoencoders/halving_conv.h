// A 3 x 3 convolution with stride 2 of a frame with a row and a column of zeros behind it, which
// halves both sides (the downsampler of Wan's autoencoder), run frame by frame
// (models/autoencoders/frame_pass.h).
// Shapes: H x W frame, both even, C channels, O output channels.
#pragma once

#include <string>

#include "models/autoencoders/frame_pass.h"
#include "tamias/tensor.h"
#include "tamias/weights.h"

namespace tamias {

class HalvingConv {
 public:
  // Reads "<name>.weight" [O, C, 3, 3] and "<name>.bias" [O].
  static HalvingConv Load(const Weights& weights, const std::string& name, int64_t in, int64_t out);

  // output[y, x] = b + sum_{i,j} W[i, j] frame[2y + i, 2x + j]; frame [1, H, W, C], output
  // [1, H / 2, W / 2, O].
  void Forward(FramePass& pass, const TensorView& frame, const TensorView& output) const;

 private:
  ConstTensorView weight_;
  ConstTensorView bias_;
};

}  // namespace tamias
