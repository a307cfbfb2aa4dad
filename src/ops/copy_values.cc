// Entry of the copy of values: checks, then the device's implementation.
#include "ops/copy_values.h"

#include <algorithm>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void CopyValues(Context& context, std::span<const float> values, TensorView destination) {
  const auto count = static_cast<int64_t>(values.size());
  if (count > kMostValues) {
    Fail(ErrorCode::kInvalidArgument, "copy values: values: expected at most {}, found {}",
         kMostValues, count);
  }
  CheckList(context, "copy values", "destination", destination, DType::kF32, {count});
  Dispatch(
      context, [&] { std::ranges::copy(values, destination.data<float>()); },
      [&](cuda::Stream& stream) { cuda::CopyValues(stream, values, destination); });
}

}  // namespace tamias
