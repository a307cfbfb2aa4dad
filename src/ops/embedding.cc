// Entry of the table lookup: checks, then the device's implementation.
#include "ops/embedding.h"

#include "base/device_memory.h"
#include "ops/check_tensor.h"

namespace tamias {

void Embedding(Context& context, ConstTensorView table, ConstTensorView ids, TensorView output) {
  CheckWeight("embedding", "table", table, {-1, -1});
  CheckUnitStride("embedding", "table", table);
  CheckTensor("embedding", "ids", ids, DType::kI32, ids.shape());
  CheckContiguous("embedding", "ids", ids);
  Shape shape = ids.shape();
  shape.Append(table.dim(1));
  CheckTensor("embedding", "output", output, context.IsOnGpu() ? output.dtype() : DType::kF32,
              shape);
  CheckContiguous("embedding", "output", output);
  for (int64_t i = 0; i < ids.NumElements(); ++i) {
    const int32_t id = ids.data<int32_t>()[i];
    if (id < 0 || id >= table.dim(0)) {
      Fail(ErrorCode::kInvalidArgument, "embedding: ids: expected 0 to {} at place {}, found {}",
           table.dim(0) - 1, i, id);
    }
  }
  if (!context.IsOnGpu()) return cpu::Embedding(context, table, ids, output);
  Workspace::Scope scope(context.workspace());
  const TensorView on_device = context.workspace().Allocate(ids.shape(), DType::kI32);
  CopyToDevice(context, ids, on_device);
  cuda::Embedding(context.stream(), table, on_device, output);
}

}  // namespace tamias
