// The operations of tamias/ops/copy.h as each device computes them. src/ops/copy.cc checks the
// arguments and calls these.
#pragma once

#include <cstdint>
#include <span>

#include "tamias/ops/copy.h"

namespace tamias {

// destination[i] = values[i], f32, contiguous, on the context's device; values are the host's and
// may change once this returns. At most kMostValues: on a GPU they travel with the launch, and
// nothing waits. Throws kInvalidArgument for more.
constexpr int64_t kMostValues = 512;
void CopyValues(Context& context, std::span<const float> values, TensorView destination);

namespace reference {
void Copy(Context& context, ConstTensorView source, TensorView destination);
}  // namespace reference
namespace cpu {
void Copy(Context& context, ConstTensorView source, TensorView destination);
}  // namespace cpu

namespace cuda {
class Stream;
void CopyContiguous(Stream& stream, ConstTensorView source, TensorView destination);
void CopyStrided(Stream& stream, ConstTensorView source, TensorView destination);
void CopyValues(Stream& stream, std::span<const float> values, TensorView destination);
}  // namespace cuda

}  // namespace tamias
