// Entry of the copy: checks, then the device's implementation.
#include "ops/copy.h"

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

}  // namespace tamias
