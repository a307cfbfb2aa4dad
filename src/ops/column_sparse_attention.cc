// Entry checks and dispatch of column-sparse attention.
#include "ops/column_sparse_attention.h"

#include "base/check.h"
#include "ops/attention.h"
#include "ops/check_tensor.h"
#include "ops/dispatch.h"

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

void CheckSelection(const Context& context, const AttentionInputs& inputs,
                    const ColumnSelection& selection) {
  CheckAtLeast(kOperation, "group_size", selection.group_size, 1);
  const int64_t rows = inputs.query.dim(2), dense_rows = selection.dense_rows;
  if (dense_rows < 0 || dense_rows > rows) {
    Fail(ErrorCode::kInvalidArgument, "{}: dense_rows: expected 0 to {}, found {}", kOperation,
         rows, dense_rows);
  }
  if (dense_rows > 0 && inputs.causal) {
    Fail(ErrorCode::kInvalidArgument, "{}: dense_rows: expected 0 with causal inputs, found {}",
         kOperation, dense_rows);
  }
  const int64_t batch = inputs.query.dim(0);
  const int64_t heads = inputs.query.dim(1);
  const int64_t groups = (rows - dense_rows + selection.group_size - 1) / selection.group_size;
  const Shape lists = {batch, heads, groups};
  CheckList(context, kOperation, "indices", selection.indices, DType::kI32,
            {batch, heads, groups, -1});
  CheckList(context, kOperation, "counts", selection.counts, DType::kI32, lists);
  if (context.IsOnGpu()) {
    if (!selection.order.empty()) {
      CheckList(context, kOperation, "order", selection.order, DType::kI32, lists);
    }
  } else if (!context.IsPlanning()) {
    CheckIndices(selection, inputs.key.dim(2));
  }
}

// query: the rows in groups.
void CheckEpilogue(const Context& context, const ConstTensorView& query,
                   const SparseAttentionEpilogue& epilogue, const TensorView& log_sum_exp) {
  const Shape rows = {query.dim(0), query.dim(1), query.dim(2)};
  if (!log_sum_exp.empty()) {
    CheckList(context, kOperation, "log_sum_exp", log_sum_exp, DType::kF32, rows);
  }
  if (!epilogue.base.empty()) {
    CheckTensor(context, kOperation, "base", epilogue.base, query.dtype(), query.shape());
    CheckUnitStride(kOperation, "base", epilogue.base);
  }
  if (epilogue.base_log_sum_exp.empty()) return;
  CheckList(context, kOperation, "base_log_sum_exp", epilogue.base_log_sum_exp, DType::kF32, rows);
  if (epilogue.base.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "{}: base: expected a tensor with base_log_sum_exp, found none", kOperation);
  }
  if (epilogue.scale != 1) {
    Fail(ErrorCode::kInvalidArgument, "{}: scale: expected 1 with base_log_sum_exp, found {}",
         kOperation, epilogue.scale);
  }
}

// The order of a selection as the kernels read it.
ConstTensorView Flat(const ConstTensorView& order) {
  return order.empty() ? order : order.Reshape({order.NumElements()});
}

}  // namespace

void ColumnSparseAttention(Context& context, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp) {
  CheckAttention(context, kOperation, inputs, output, /*log_sum_exp=*/{});
  CheckSelection(context, inputs, selection);
  const int64_t rows = inputs.query.dim(2), dense_rows = selection.dense_rows;
  CheckEpilogue(context, inputs.query.Slice(2, dense_rows, rows), epilogue, log_sum_exp);
  if (dense_rows == rows) return DenseAttention(context, inputs, output);
  DispatchWithCpuScratch(
      context,
      [&] {
        if (dense_rows > 0) {
          cpu::DenseAttention(context, inputs.OfQueries(0, dense_rows),
                              output.Slice(2, 0, dense_rows));
        }
        cpu::ColumnSparseAttention(context, inputs.OfQueries(dense_rows, rows), selection, epilogue,
                                   output.Slice(2, dense_rows, rows), log_sum_exp);
      },
      [&](cuda::Stream& stream) {
        cuda::ColumnSparseAttention(stream, inputs, selection, epilogue, output, log_sum_exp,
                                    Flat(selection.order));
      });
}

void LongestFirstOrder(Context& context, ConstTensorView counts, TensorView order) {
  constexpr const char* kName = "longest-first order";
  if (!context.IsOnGpu()) {
    Fail(ErrorCode::kUnsupported, "{}: groups have an order on a GPU only", kName);
  }
  CheckList(context, kName, "counts", counts, DType::kI32, {-1, -1, -1});
  CheckList(context, kName, "order", order, DType::kI32, counts.shape());
  Dispatch(
      context, [] {},
      [&](cuda::Stream& stream) {
        cuda::LongestFirstOrder(stream, counts, order.Reshape({order.NumElements()}));
      });
}

}  // namespace tamias
