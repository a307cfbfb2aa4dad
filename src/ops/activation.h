// The operations of tamias/ops/activation.h as each device computes them. src/ops/activation.cc
// checks the arguments and calls these.
#pragma once

#include "tamias/ops/activation.h"

namespace tamias {

namespace reference {
void Activate(Context& context, Activation activation, TensorView values);
// The scalar behind it, in double precision.
double ActivateScalar(Activation activation, double x);
}  // namespace reference
namespace cpu {
void Activate(Context& context, Activation activation, TensorView values);
}  // namespace cpu

namespace cuda {
class Stream;
void Activate(Stream& stream, Activation activation, TensorView values);
}  // namespace cuda

}  // namespace tamias
