// What the decoders that run frame by frame (models/autoencoders/frame_pass.h) are made of,
// channels-last: normalisation over the channels of a pixel or over groups of a frame, and residual
// blocks. Shapes: H x W picture, C channels.
#pragma once

#include <cstdint>
#include <optional>

#include "models/autoencoders/frame_pass.h"
#include "models/linear_layer.h"

namespace tamias {

struct FrameNorm {
  NormLayer layer;
  int64_t groups = 0;  // of a group norm over the frame; 0: RMS norm over the channels of a pixel
  float epsilon = 0;

  // output = SiLU(norm(frame)), or without SiLU; both [1, H, W, C]. Output may be the frame.
  void operator()(FramePass& pass, const TensorView& frame, bool silu,
                  const TensorView& output) const;
};

// output (+)= linear(input) for every pixel of [1, H, W, C].
void ApplyToPixels(FramePass& pass, const LinearLayer& layer, ConstTensorView input,
                   bool accumulate, const TensorView& output);

// output (+)= conv(SiLU(norm(frame))).
void NormConvolve(FramePass& pass, const FrameNorm& norm, const CausalConv& conv,
                  const TensorView& frame, bool accumulate, const TensorView& output);

// y = shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x)))))).
struct FrameResidualBlock {
  FrameNorm norm1;
  CausalConv conv1;
  FrameNorm norm2;
  CausalConv conv2;
  std::optional<LinearLayer> shortcut = {};  // where the number of channels changes

  // Returns y: in the memory of the frame, or allocated where there is a shortcut.
  TensorView Forward(FramePass& pass, const TensorView& frame) const;
};

}  // namespace tamias
