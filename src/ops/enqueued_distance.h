// MeasureDistance on a GPU in two halves, for who has something to do between them.
#pragma once

#include "tamias/context.h"
#include "tamias/ops/distance.h"
#include "tamias/tensor.h"

namespace tamias {

// The sums [P, 4] of a and b, as MeasureDistance takes them, in the workspace, valid in the
// caller's scope. The work is enqueued. Needs a context on a GPU.
TensorView EnqueueDistance(Context& context, ConstTensorView a, ConstTensorView b);
// The distance, from the host's copy of them.
Distance AddUp(ConstTensorView sums);

}  // namespace tamias
