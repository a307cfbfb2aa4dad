// The distance, element by element in double precision.
#include "ops/distance.h"

#include <cmath>

#include "ops/reference/elements.h"

namespace tamias::reference {

Distance MeasureDistance(Context&, ConstTensorView a, ConstTensorView b) {
  Distance distance;
  ForEachIndex(a.shape(), [&](const Shape& i) {
    const double difference = Get(a, i) - Get(b, i), value = Get(b, i);
    distance += {std::abs(difference), std::abs(value), difference * difference, value * value};
  });
  return distance;
}

}  // namespace tamias::reference
