// Groups of mean rows lie in the order of the groups of rows: as many divide a group.
#include "sparsity/pooled_attention.h"

#include <numeric>

#include "ops/attention_rest.h"
#include "tamias/ops/block_mean.h"
#include "tamias/ops/copy.h"

namespace tamias {
namespace {

// Query rows that one mean row stands for, or a part of them that divides the group: two inner
// patches of the token order. One mean for a whole group is no cheaper on a CPU, which computes 16
// rows at a time, and misses much of what later layers look at.
constexpr int64_t kPooledRows = 32;

// destination[:, :, i] = means[:, :, i / rows]: [1, H, Nq, ...] of [1, H, ceil(Nq / rows), ...].
void RepeatRows(Context& context, ConstTensorView means, int64_t rows, TensorView destination) {
  const int64_t end = destination.dim(2);
  const auto repeat = [&](int64_t first, int64_t last, int64_t times, TensorView to) {
    if (last <= first) return;
    const ConstTensorView from = means.Slice(2, first, last).SplitAxis(2, last - first, 1);
    Shape shape = from.shape(), strides = from.strides();
    shape[3] = times;
    strides[3] = 0;
    Copy(context, ConstTensorView(from.raw(), from.dtype(), shape, strides, from.device()),
         to.SplitAxis(2, last - first, times));
  };
  const int64_t whole = end / rows;
  repeat(0, whole, rows, destination.Slice(2, 0, whole * rows));
  repeat(whole, means.dim(2), end - whole * rows, destination.Slice(2, whole * rows, end));
}

}  // namespace

PooledAttention::PooledAttention(Context& context, const AttentionInputs& inputs,
                                 int64_t group_size)
    : rows_(std::gcd(group_size, kPooledRows)),
      rows_of_inputs_(inputs.query.dim(2)),
      means_per_group_(group_size / rows_),
      means_(inputs) {
  const Shape shape = {1, inputs.query.dim(1), (rows_of_inputs_ + rows_ - 1) / rows_,
                       inputs.query.dim(3)};
  const TensorView query = context.workspace().Allocate(shape, inputs.query.dtype());
  output_ = context.workspace().Allocate(shape, inputs.query.dtype());
  log_sum_exp_ = context.workspace().Allocate({1, shape[1], shape[2]}, DType::kF32);
  BlockMean(context, inputs.query.Select(0, 0), rows_, query.Select(0, 0));
  means_.query = query;
  DenseAttention(context, means_, output_, log_sum_exp_);
}

void PooledAttention::ColumnSums(Context& context, TensorView column_sums) const {
  DenseAttentionColumnSums(context, means_, log_sum_exp_, means_per_group_, output_, {},
                           column_sums);
}

SparseAttentionEpilogue PooledAttention::Rest(Context& context,
                                              const ColumnSelection& selection) const {
  const Shape shape = means_.query.shape();
  const DType dtype = means_.query.dtype();
  const TensorView rest =
      context.workspace().Allocate({1, shape[1], rows_of_inputs_, shape[3]}, dtype);
  const TensorView rest_log_sum_exp =
      context.workspace().Allocate({1, shape[1], rows_of_inputs_}, DType::kF32);
  Workspace::Scope scope(context.workspace());
  const TensorView rest_of_means = context.workspace().Allocate(shape, dtype);
  const TensorView selected = context.workspace().Allocate(log_sum_exp_.shape(), DType::kF32);
  const TensorView left_out = context.workspace().Allocate(log_sum_exp_.shape(), DType::kF32);
  ColumnSelection of_means = selection;
  of_means.group_size = means_per_group_;
  ColumnSparseAttention(context, means_, of_means, {}, rest_of_means, selected);
  AttentionRest(context,
                {.output = output_, .log_sum_exp = log_sum_exp_, .selected_log_sum_exp = selected},
                rest_of_means, left_out);
  RepeatRows(context, rest_of_means, rows_, rest);
  RepeatRows(context, left_out, rows_, rest_log_sum_exp);
  return {.base = rest, .base_log_sum_exp = rest_log_sum_exp};
}

}  // namespace tamias
