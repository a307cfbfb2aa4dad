// Entry checks and dispatch of column-sparse attention.
#include "ops/column_sparse_attention.h"

#include "ops/check_tensor.h"

namespace tamias {
namespace {

constexpr const char* kOperation = "column-sparse attention";

// Every list ascends strictly and stays below num_keys: an index out of range would be read.
void CheckIndices(const ColumnSelection& selection, int64_t num_keys) {
  const int64_t lists = selection.counts.NumElements();
  const int64_t capacity = selection.indices.dim(3);
  for (int64_t list = 0; list < lists; ++list) {
    const int64_t count = selection.counts.data<int32_t>()[list];
    if (count < 0 || count > capacity) {
      Fail(ErrorCode::kInvalidArgument, "{}: counts: expected 0 to {}, found {} in group {}",
           kOperation, capacity, count, list);
    }
    if (count == 0) continue;
    const int32_t* indices = selection.indices.data<int32_t>() + list * capacity;
    bool ascends = true;
    for (int64_t j = 1; j < count; ++j) ascends &= indices[j - 1] < indices[j];
    if (!ascends || indices[0] < 0 || indices[count - 1] >= num_keys) {
      Fail(ErrorCode::kInvalidArgument,
           "{}: indices: expected ascending numbers from 0 to {}, found others in group {}",
           kOperation, num_keys - 1, list);
    }
  }
}

void CheckSelection(const AttentionInputs& inputs, const ColumnSelection& selection) {
  if (selection.group_size <= 0) {
    Fail(ErrorCode::kInvalidArgument, "{}: group_size: expected at least 1, found {}", kOperation,
         selection.group_size);
  }
  const int64_t batch = inputs.query.dim(0);
  const int64_t heads = inputs.query.dim(1);
  const int64_t groups = (inputs.query.dim(2) + selection.group_size - 1) / selection.group_size;
  CheckTensor(kOperation, "indices", selection.indices, DType::kI32, {batch, heads, groups, -1});
  CheckTensor(kOperation, "counts", selection.counts, DType::kI32, {batch, heads, groups});
  CheckContiguous(kOperation, "indices", selection.indices);
  CheckContiguous(kOperation, "counts", selection.counts);
  CheckIndices(selection, inputs.key.dim(2));
}

void CheckEpilogue(const AttentionInputs& inputs, const SparseAttentionEpilogue& epilogue) {
  if (!epilogue.base.empty()) {
    CheckTensor(kOperation, "base", epilogue.base, DType::kF32, inputs.query.shape());
    CheckUnitStride(kOperation, "base", epilogue.base);
  }
  if (epilogue.base_log_sum_exp.empty()) return;
  const Shape& shape = inputs.query.shape();
  CheckTensor(kOperation, "base_log_sum_exp", epilogue.base_log_sum_exp, DType::kF32,
              {shape[0], shape[1], shape[2]});
  CheckContiguous(kOperation, "base_log_sum_exp", epilogue.base_log_sum_exp);
  if (epilogue.base.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: base: expected a tensor with base_log_sum_exp, found none", kOperation);
  }
  if (epilogue.scale != 1) {
    Fail(ErrorCode::kInvalidArgument, "{}: scale: expected 1 with base_log_sum_exp, found {}",
         kOperation, epilogue.scale);
  }
}

}  // namespace

void ColumnSparseAttention(Context& context, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp) {
  if (context.IsOnGpu()) {
    return cuda::ColumnSparseAttention(
        context.stream(), inputs, selection, epilogue, output, log_sum_exp,
        selection.order.empty() ? ConstTensorView()
                                : selection.order.Reshape({selection.order.NumElements()}));
  }
  CheckAttention(kOperation, inputs, output, log_sum_exp);
  CheckSelection(inputs, selection);
  CheckEpilogue(inputs, epilogue);
  cpu::ColumnSparseAttention(context, inputs, selection, epilogue, output, log_sum_exp);
}

void LongestFirstOrder(Context& context, ConstTensorView counts, TensorView order) {
  if (!context.IsOnGpu()) {
    Fail(ErrorCode::kUnsupported, "longest-first order: groups have an order on a GPU only");
  }
  cuda::LongestFirstOrder(context.stream(), counts, order.Reshape({order.NumElements()}));
}

}  // namespace tamias
