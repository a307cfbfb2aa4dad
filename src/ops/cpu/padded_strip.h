// Rows of a frame as a convolution reads them: scaled, padded, and few enough to stay in the
// second-level cache.
#pragma once

#include "ops/conv3d.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias::cpu {

// One frame of the input and what is applied to it on reading.
struct Frame {
  ConstTensorView pixels;                  // [H, W, C]
  ConstTensorView gain = {}, offset = {};  // [1, C], or empty
  bool silu = false;
};

// Fills `strip` [rows, left + W + right, C], of the frame's type, with the frame's rows from
// `first` on; what lies outside the frame is zero or repeats its nearest pixel, in which case at
// least one row must lie inside. With a planning context it takes its scratch only.
void FillStrip(Context& context, const Frame& frame, int64_t first, int64_t left, int64_t right,
               PaddingMode mode, const TensorView& strip);

// Fills it with zeros.
void ClearStrip(const TensorView& strip);

}  // namespace tamias::cpu
