// Entry of the attention's rest: checks, then the device's implementation.
#include "ops/attention_rest.h"

#include "ops/check_tensor.h"

namespace tamias {

void AttentionRest(Context& context, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp) {
  if (context.IsOnGpu()) {
    return cuda::AttentionRest(context.stream(), partition, rest, rest_log_sum_exp);
  }
  constexpr std::string_view kName = "attention rest";
  CheckTensor(kName, "rest", rest, DType::kF32, {-1, -1, -1, -1});
  CheckTensor(kName, "output", partition.output, DType::kF32, rest.shape());
  CheckUnitStride(kName, "rest", rest);
  CheckUnitStride(kName, "output", partition.output);
  const Shape rows = {rest.dim(0), rest.dim(1), rest.dim(2)};
  for (const ConstTensorView& view :
       {partition.log_sum_exp, partition.selected_log_sum_exp, ConstTensorView(rest_log_sum_exp)}) {
    CheckTensor(kName, "log_sum_exp", view, DType::kF32, rows);
    CheckContiguous(kName, "log_sum_exp", view);
  }
  cpu::AttentionRest(context, partition, rest, rest_log_sum_exp);
}

}  // namespace tamias
