// How far two tensors lie apart, as sums over all their elements.
#pragma once

#include "tamias/context.h"
#include "tamias/tensor.h"

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

}  // namespace tamias
