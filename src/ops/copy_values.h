// A few numbers of the host on the context's device.
#pragma once

#include <cstdint>
#include <span>

#include "tamias/context.h"
#include "tamias/tensor.h"

namespace tamias {

constexpr int64_t kMostValues = 512;

// destination[i] = values[i], f32, contiguous. The host's values may change once this returns: on a
// GPU they travel with the launch, and nothing waits. Throws kInvalidArgument for more than
// kMostValues.
void CopyValues(Context& context, std::span<const float> values, TensorView destination);

namespace cuda {
class Stream;
void CopyValues(Stream& stream, std::span<const float> values, TensorView destination);
}  // namespace cuda

}  // namespace tamias
