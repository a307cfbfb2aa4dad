// Entry of the copy: checks, then the device's implementation.
#include "ops/copy.h"

#include <algorithm>

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void Copy(Context& context, ConstTensorView source, TensorView destination) {
  CheckTensor(context, "copy", "source", source, source.dtype(), source.shape());
  CheckTensor(context, "copy", "destination", destination, source.dtype(), source.shape());
  Dispatch(
      context, [&] { cpu::Copy(context, source, destination); },
      [&](cuda::Stream& stream) {
        if (source.IsContiguous() && destination.IsContiguous()) {
          cuda::CopyContiguous(stream, source, destination);
        } else {
          cuda::CopyStrided(stream, source, destination);
        }
      });
}

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
