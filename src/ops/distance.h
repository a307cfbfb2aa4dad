// How far two tensors lie apart, as sums over all their elements.
#pragma once

#include "base/context.h"
#include "base/tensor.h"

namespace tamias {

struct Distance {
  double absolute = 0;            // sum |a - b|
  double absolute_reference = 0;  // sum |b|
  double squared = 0;             // sum (a - b)^2
  double squared_reference = 0;   // sum b^2
  Distance& operator+=(const Distance& other);
};

// a, b of one shape, any rank, f32, any strides with last stride 1. The same at any number of
// threads. On a GPU it waits for the result.
Distance MeasureDistance(Context& context, ConstTensorView a, ConstTensorView b);

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
