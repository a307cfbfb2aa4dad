// The operations of tamias/ops/distance.h as each device computes them. src/ops/distance.cc checks
// the arguments and calls these.
#pragma once

#include "tamias/ops/distance.h"

namespace tamias {

namespace reference {
Distance MeasureDistance(Context& context, ConstTensorView a, ConstTensorView b);
}  // namespace reference
namespace cpu {
Distance MeasureDistance(Context& context, ConstTensorView a, ConstTensorView b);
}  // namespace cpu

// On a GPU: a and b each f32, f16 or bf16, rows a multiple of 8 long that begin at multiples of 16
// bytes. partial_sums [P, 4] f32: the sums over every P-th row, each in the order of Distance.
// Returns once the work is enqueued.
namespace cuda {
class Stream;
void MeasureDistance(Stream& stream, ConstTensorView a, ConstTensorView b, TensorView partial_sums);
}  // namespace cuda

}  // namespace tamias
