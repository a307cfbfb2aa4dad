// Entry checks and dispatch of dense attention.
#include "ops/attention.h"

#include "base/check.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

namespace tamias {
namespace {

void CheckColumnSums(const Context& context, const AttentionInputs& inputs,
                     ConstTensorView previous_log_sum_exp, int64_t group_size,
                     ConstTensorView column_sums) {
  constexpr const char* kOperation = "dense attention with column sums";
  CheckAtLeast(kOperation, "group_size", group_size, 1);
  const int64_t batch = inputs.query.dim(0);
  const int64_t heads = inputs.query.dim(1);
  const int64_t rows = inputs.query.dim(2);
  const int64_t groups = (rows + group_size - 1) / group_size;
  CheckList(context, kOperation, "previous_log_sum_exp", previous_log_sum_exp, DType::kF32,
            {batch, heads, rows});
  CheckList(context, kOperation, "column_sums", column_sums, DType::kF32,
            {batch, heads, groups, inputs.key.dim(2)});
}

}  // namespace

void CheckAttention(const Context& context, const char* operation, const AttentionInputs& inputs,
                    const TensorView& output, const TensorView& log_sum_exp) {
  const ConstTensorView& query = inputs.query;
  CheckActivationRows(context, operation, "query", query, {-1, -1, -1, -1});
  const int64_t batch = query.dim(0);
  const int64_t heads = query.dim(1);
  CheckTensor(context, operation, "key", inputs.key, query.dtype(),
              {batch, heads, -1, query.dim(3)});
  if (inputs.causal && inputs.key.dim(2) < query.dim(2)) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: key: expected at least {} keys for as many causal queries, found {}", operation,
         query.dim(2), inputs.key.dim(2));
  }
  CheckTensor(context, operation, "value", inputs.value, query.dtype(), inputs.key.shape());
  CheckTensor(context, operation, "output", output, query.dtype(), query.shape());
  CheckUnitStride(operation, "key", inputs.key);
  CheckUnitStride(operation, "value", inputs.value);
  CheckUnitStride(operation, "output", output);
  if (!log_sum_exp.empty()) {
    CheckList(context, operation, "log_sum_exp", log_sum_exp, DType::kF32,
              {batch, heads, query.dim(2)});
  }
}

void DenseAttention(Context& context, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp) {
  CheckAttention(context, "dense attention", inputs, output, log_sum_exp);
  DispatchWithCpuScratch(
      context, [&] { cpu::DenseAttention(context, inputs, output, log_sum_exp); },
      [&](cuda::Stream& stream) { cuda::DenseAttention(stream, inputs, output, log_sum_exp); });
}

void DenseAttentionColumnSums(Context& context, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums) {
  CheckAttention(context, "dense attention with column sums", inputs, output, log_sum_exp);
  CheckColumnSums(context, inputs, previous_log_sum_exp, group_size, column_sums);
  DispatchWithCpuScratch(
      context,
      [&] {
        cpu::DenseAttentionColumnSums(context, inputs, previous_log_sum_exp, group_size, output,
                                      log_sum_exp, column_sums);
      },
      [&](cuda::Stream& stream) {
        cuda::DenseAttentionColumnSums(stream, inputs, previous_log_sum_exp, group_size, output,
                                       log_sum_exp, column_sums);
      });
}

}  // namespace tamias
