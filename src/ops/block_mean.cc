// Entry of the block means: checks, then the device's implementation.
#include "ops/block_mean.h"

#include "ops/check_tensor.h"

namespace tamias {

void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output) {
  if (context.IsOnGpu()) return cuda::BlockMean(context.stream(), input, group_size, output);
  if (group_size < 1) {
    Fail(ErrorCode::kInvalidArgument, "block mean: group_size: expected at least 1, found {}",
         group_size);
  }
  CheckTensor("block mean", "input", input, DType::kF32, {-1, -1, -1});
  const int64_t groups = (input.dim(1) + group_size - 1) / group_size;
  CheckTensor("block mean", "output", output, DType::kF32, {input.dim(0), groups, input.dim(2)});
  CheckUnitStride("block mean", "input", input);
  CheckUnitStride("block mean", "output", output);
  cpu::BlockMean(context, input, group_size, output);
}

}  // namespace tamias
