// Refuses results that are not finite.
#pragma once

#include "pipeline/model_family.h"
#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

// Throws kInvalidFile when a contiguous f32 tensor of the host holds an infinite value or none:
// broken weights are its cause more often than anything else, so the first broken tensor of the
// checkpoint is named. `what`: "the latents".
void CheckFinite(ConstTensorView values, const char* what, const ModelFamily& family);

}  // namespace tamias
