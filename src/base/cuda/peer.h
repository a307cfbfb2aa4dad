// Copies from the memory of one GPU into that of another.
#pragma once

#include "base/cuda/stream.h"
#include "tamias/tensor.h"

namespace tamias::cuda {

// From now on the GPU reads the other's memory directly, where the two cards can; where they cannot
// the driver copies by way of the host.
void AllowPeerAccess(int device, int peer);

// Enqueues a copy from any GPU into the stream's. Views of one shape and one dtype that are rows:
// contiguous in both but for at most one axis, of any stride. The source's work must be done, and
// it must not change until the stream has come past the copy.
void CopyFromPeer(Stream& stream, ConstTensorView source, TensorView destination);

}  // namespace tamias::cuda
