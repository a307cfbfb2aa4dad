// A pass over the values; only where one is not finite, a pass over all weights.
#include "pipeline/finite_values.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace tamias {

void CheckFinite(ConstTensorView values, const char* what, const ModelFamily& family) {
  const float* begin = values.host_data<float>();
  if (std::all_of(begin, begin + values.NumElements(), [](float x) { return std::isfinite(x); })) {
    return;
  }
  const Context context;
  for (const ModelComponent& component : family.components()) {
    component.model->weights().CheckFinite(context);
  }
  Fail(ErrorCode::kInvalidFile,
       "{}: {} became infinite or not a number, though all weights are finite",
       family.folder().path().string(), what);
}

}  // namespace tamias
