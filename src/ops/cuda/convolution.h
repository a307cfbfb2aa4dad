// The one convolution behind Conv2d, Conv3d and their upsampling forms on a GPU: pictures are films
// of one frame, and an enlarged film is one whose pixels are seen more than once.
#pragma once

#include "base/cuda/stream.h"
#include "ops/conv3d.h"

namespace tamias::cuda {

struct Convolution {
  const char* name = "";        // of the operation, for messages
  ConstTensorView input = {};   // [B, T, H, W, C], each frame contiguous
  ConstTensorView weight = {};  // [O, C, kt, kh, kw], last stride 1
  ConstTensorView bias = {};    // [O], or empty
  Conv3dOptions options = {};
  bool doubles_pixels = false;       // the convolution sees pixel (y / 2, x / 2) of the input
  bool doubles_frames = false;       // and frame (t + 1) / 2
  bool repeats_first_frame = false;  // in front, whatever options.padding.mode
};

// What `scratch` (ops/cuda/scratch.h) must hold. input: without axes where it is enlarged, and then
// read in place.
size_t ConvolutionScratchBytes(const Shape& input, const ConstTensorView& weight,
                               bool scales_input);

// Checks the operands and enqueues the work.
void Convolve(Stream& stream, const Convolution& convolution, TensorView scratch,
              TensorView output);

}  // namespace tamias::cuda
