// Flow schedulers, what they share: see the header.
#include "models/flow_scheduler.h"

#include "base/check.h"

namespace tamias {

std::vector<double> Linspace(double first, double last, int count) {
  if (count < 1) {
    Fail(ErrorCode::kInvalidArgument, "scheduler: expected at least one step, found {}", count);
  }
  const double stride = count > 1 ? (last - first) / (count - 1) : 0;
  std::vector<double> values;
  for (int i = 0; i < count; ++i) values.push_back(first + stride * i);
  if (count > 1) values.back() = last;
  return values;
}

}  // namespace tamias
