// Entry of the copy of chosen columns: checks, then the device's implementation.
#include "ops/copy_indices.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void CopyIndices(Context& context, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination) {
  constexpr std::string_view kName = "copy indices";
  CheckActivationRows(context, kName, "source", source, {-1, -1});
  CheckTensor(context, kName, "indices", indices, DType::kI32, {source.dim(0), -1});
  CheckTensor(context, kName, "counts", counts, DType::kI32, {source.dim(0)});
  CheckTensor(context, kName, "destination", destination, source.dtype(), source.shape());
  CheckUnitStride(kName, "indices", indices);
  CheckUnitStride(kName, "counts", counts);
  CheckUnitStride(kName, "destination", destination);
  Dispatch(
      context, [&] { cpu::CopyIndices(context, source, indices, counts, destination); },
      [&](cuda::Stream& stream) {
        cuda::CopyIndices(stream, source, indices, counts, destination);
      });
}

}  // namespace tamias
