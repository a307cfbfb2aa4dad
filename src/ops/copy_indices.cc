// Entry of the copy of chosen columns: checks, then the device's implementation.
#include "ops/copy_indices.h"

#include "ops/check_tensor.h"

namespace tamias {

void CopyIndices(Context& context, ConstTensorView source, ConstTensorView indices,
                 ConstTensorView counts, TensorView destination) {
  if (context.IsOnGpu()) {
    return cuda::CopyIndices(context.stream(), source, indices, counts, destination);
  }
  CheckTensor("copy indices", "source", source, DType::kF32, {-1, -1});
  CheckTensor("copy indices", "indices", indices, DType::kI32, {source.dim(0), -1});
  CheckTensor("copy indices", "counts", counts, DType::kI32, {source.dim(0)});
  CheckTensor("copy indices", "destination", destination, DType::kF32, source.shape());
  CheckUnitStride("copy indices", "source", source);
  CheckUnitStride("copy indices", "indices", indices);
  CheckUnitStride("copy indices", "counts", counts);
  CheckUnitStride("copy indices", "destination", destination);
  cpu::CopyIndices(context, source, indices, counts, destination);
}

}  // namespace tamias
