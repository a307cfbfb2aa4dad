// Entry of the attention's rest: checks, then the device's implementation.
#include "ops/attention_rest.h"

#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {

void AttentionRest(Context& context, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp) {
  constexpr std::string_view kName = "attention rest";
  CheckActivationRows(context, kName, "rest", rest, {-1, -1, -1, -1});
  CheckActivationRows(context, kName, "output", partition.output, rest.shape());
  const Shape rows = {rest.dim(0), rest.dim(1), rest.dim(2)};
  CheckList(context, kName, "log_sum_exp", partition.log_sum_exp, DType::kF32, rows);
  CheckList(context, kName, "selected_log_sum_exp", partition.selected_log_sum_exp, DType::kF32,
            rows);
  CheckList(context, kName, "rest_log_sum_exp", rest_log_sum_exp, DType::kF32, rows);
  Dispatch(
      context, [&] { cpu::AttentionRest(context, partition, rest, rest_log_sum_exp); },
      [&](cuda::Stream& stream) {
        cuda::AttentionRest(stream, partition, rest, rest_log_sum_exp);
      });
}

}  // namespace tamias
