// Entry of the block means: checks, then the device's implementation.
#include "ops/block_mean.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void BlockMean(Context& context, ConstTensorView input, int64_t group_size, TensorView output) {
  CheckAtLeast("block mean", "group_size", group_size, 1);
  CheckActivationRows(context, "block mean", "input", input, {-1, -1, -1});
  const int64_t groups = (input.dim(1) + group_size - 1) / group_size;
  CheckActivationRows(context, "block mean", "output", output,
                      {input.dim(0), groups, input.dim(2)});
  Dispatch(
      context, [&] { cpu::BlockMean(context, input, group_size, output); },
      [&](cuda::Stream& stream) { cuda::BlockMean(stream, input, group_size, output); });
}

}  // namespace tamias
