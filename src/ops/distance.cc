// Entry of the distance: checks, then the device's implementation.
#include "ops/distance.h"

#include <algorithm>

#include "ops/check_tensor.h"
#include "ops/enqueued_distance.h"
#include "tamias/device_memory.h"

namespace tamias {
namespace {

constexpr std::string_view kName = "distance";

void CheckPair(const Context& context, const ConstTensorView& a, const ConstTensorView& b) {
  CheckActivationRows(context, kName, "a", a, a.shape());
  CheckActivationRows(context, kName, "b", b, a.shape());
  CheckAtLeast(kName, "a: axes", a.rank(), context.IsOnGpu() ? 1 : 0);
}

}  // namespace

Distance& Distance::operator+=(const Distance& other) {
  absolute += other.absolute;
  absolute_reference += other.absolute_reference;
  squared += other.squared;
  squared_reference += other.squared_reference;
  return *this;
}

TensorView EnqueueDistance(Context& context, ConstTensorView a, ConstTensorView b) {
  CheckPair(context, a, b);
  constexpr int64_t kMaxParts = 256;  // blocks enough to read at full speed, few numbers to copy
  const int64_t rows = a.NumElements() / std::max<int64_t>(a.dim(-1), 1);
  const TensorView sums =
      context.workspace().Allocate({std::clamp<int64_t>(rows, 1, kMaxParts), 4}, DType::kF32);
  if (!context.IsPlanning()) cuda::MeasureDistance(context.stream(), a, b, sums);
  return sums;
}

Distance AddUp(ConstTensorView sums) {
  Distance distance;
  for (int64_t part = 0; part < sums.dim(0); ++part) {
    const float* values = sums.host_data<float>() + part * 4;
    distance += {values[0], values[1], values[2], values[3]};
  }
  return distance;
}

Distance MeasureDistance(Context& context, ConstTensorView a, ConstTensorView b) {
  if (context.IsOnGpu()) {
    Workspace::Scope scope(context.workspace());
    const TensorView sums = EnqueueDistance(context, a, b);
    return context.IsPlanning() ? Distance{} : AddUp(CopyToHost(context, sums));
  }
  CheckPair(context, a, b);
  if (context.IsPlanning()) return {};
  return cpu::MeasureDistance(context, a, b);
}

}  // namespace tamias
