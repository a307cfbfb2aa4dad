// Entry checks and dispatch of dense attention.
#include "ops/attention.h"

#include "ops/check_tensor.h"

namespace tamias {
namespace {

void CheckColumnSums(const AttentionInputs& inputs, ConstTensorView previous_log_sum_exp,
                     int64_t group_size, ConstTensorView column_sums) {
  constexpr const char* kOperation = "dense attention with column sums";
  if (group_size <= 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: group_size: expected at least 1, found {}", kOperation,
         group_size);
  }
  const int64_t batch = inputs.query.dim(0);
  const int64_t heads = inputs.query.dim(1);
  const int64_t rows = inputs.query.dim(2);
  const int64_t groups = (rows + group_size - 1) / group_size;
  CheckTensor(kOperation, "previous_log_sum_exp", previous_log_sum_exp, DType::kF32,
              {batch, heads, rows});
  CheckContiguous(kOperation, "previous_log_sum_exp", previous_log_sum_exp);
  CheckTensor(kOperation, "column_sums", column_sums, DType::kF32,
              {batch, heads, groups, inputs.key.dim(2)});
  CheckContiguous(kOperation, "column_sums", column_sums);
}

}  // namespace

void CheckAttention(const char* operation, const AttentionInputs& inputs, const TensorView& output,
                    const TensorView& log_sum_exp) {
  CheckTensor(operation, "query", inputs.query, DType::kF32, {-1, -1, -1, -1});
  const int64_t batch = inputs.query.dim(0);
  const int64_t heads = inputs.query.dim(1);
  const int64_t head_dim = inputs.query.dim(3);
  CheckTensor(operation, "key", inputs.key, DType::kF32, {batch, heads, -1, head_dim});
  if (inputs.causal && inputs.key.dim(2) < inputs.query.dim(2)) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: key: expected at least {} keys for as many causal queries, found {}", operation,
         inputs.query.dim(2), inputs.key.dim(2));
  }
  CheckTensor(operation, "value", inputs.value, DType::kF32, inputs.key.shape());
  CheckTensor(operation, "output", output, DType::kF32, inputs.query.shape());
  CheckUnitStride(operation, "query", inputs.query);
  CheckUnitStride(operation, "key", inputs.key);
  CheckUnitStride(operation, "value", inputs.value);
  CheckUnitStride(operation, "output", output);
  if (!log_sum_exp.empty()) {
    CheckTensor(operation, "log_sum_exp", log_sum_exp, DType::kF32,
                {batch, heads, inputs.query.dim(2)});
    CheckContiguous(operation, "log_sum_exp", log_sum_exp);
  }
}

void DenseAttention(Context& context, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp) {
  if (context.IsOnGpu()) return cuda::DenseAttention(context.stream(), inputs, output, log_sum_exp);
  CheckAttention("dense attention", inputs, output, log_sum_exp);
  cpu::DenseAttention(context, inputs, output, log_sum_exp);
}

void DenseAttentionColumnSums(Context& context, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums) {
  if (context.IsOnGpu()) {
    return cuda::DenseAttentionColumnSums(context.stream(), inputs, previous_log_sum_exp,
                                          group_size, output, log_sum_exp, column_sums);
  }
  CheckAttention("dense attention with column sums", inputs, output, log_sum_exp);
  CheckColumnSums(inputs, previous_log_sum_exp, group_size, column_sums);
  cpu::DenseAttentionColumnSums(context, inputs, previous_log_sum_exp, group_size, output,
                                log_sum_exp, column_sums);
}

}  // namespace tamias
