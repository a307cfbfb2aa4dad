// The operations of tamias/ops/copy.h as each device computes them. src/ops/copy.cc checks the
// arguments and calls these.
#pragma once

#include "tamias/ops/copy.h"

namespace tamias {

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
}  // namespace cuda

}  // namespace tamias
