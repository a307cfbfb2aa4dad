// Where the decoders put finished frames.
#pragma once

#include <functional>

#include "tamias/tensor.h"

namespace tamias {

// Takes frames [n, H, W, 3] f32, contiguous, about [-1, 1]: the next n of the film. The memory is
// the decoder's and is used again afterwards.
using FrameSink = std::function<void(ConstTensorView frames)>;

}  // namespace tamias
