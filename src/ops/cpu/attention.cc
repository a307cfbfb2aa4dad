// Dense attention on a CPU: cuts the query rows into groups and hands them to the threads; the work
// is in attention_group.cc, here with the identity selection.
#include "ops/attention.h"

#include <algorithm>

#include "base/parallel.h"
#include "ops/cpu/attention_group.h"
#include "ops/cpu/elements.h"

namespace tamias::cpu {
namespace {

// Rows of a work item when the caller does not set groups: as many as share key and value rows
// well, but fewer when some thread would be left without work.
int64_t RowsPerItem(const AttentionInputs& inputs, int threads) {
  const int64_t heads = inputs.query.dim(0) * inputs.query.dim(1);
  const int64_t rows = inputs.query.dim(2);
  int64_t per_item = kAttentionChunkRows;
  while (per_item > 32 && heads * ((rows + per_item - 1) / per_item) < 2 * threads) {
    per_item = per_item / 2 / 32 * 32;  // 192, 96, 32: whole panels of two AVX-512 vectors
  }
  return per_item;
}

// One call, and how it is cut into groups of rows.
template <typename T>
struct DenseCall {
  const AttentionInputs& inputs;
  int64_t rows_per_item;
  TensorView output;
  TensorView log_sum_exp = {};
  ConstTensorView previous_log_sum_exp = {};
  TensorView column_sums = {};

  int64_t Groups() const { return (inputs.query.dim(2) + rows_per_item - 1) / rows_per_item; }
  int64_t Items() const { return inputs.query.dim(0) * inputs.query.dim(1) * Groups(); }

  // The i-th to be worked on. Causal: from last to first, since the last rows see most keys.
  AttentionGroup<T> ItemInOrder(int64_t i) const {
    return Item(inputs.causal ? Items() - 1 - i : i);
  }

  AttentionGroup<T> Item(int64_t item) const {
    const int64_t rows = inputs.query.dim(2);
    const int64_t head = item / Groups();  // of all batch items
    const int64_t b = head / inputs.query.dim(1);
    const int64_t h = head % inputs.query.dim(1);
    const int64_t row = item % Groups() * rows_per_item;
    const TensorView out = output.Select(0, b).Select(0, h);
    const ConstTensorView query = inputs.query.Select(0, b).Select(0, h);
    const ConstTensorView key = inputs.key.Select(0, b).Select(0, h);
    const ConstTensorView value = inputs.value.Select(0, b).Select(0, h);
    AttentionGroup<T> group{.query = query.data<T>() + row * query.stride(0),
                            .query_stride = query.stride(0),
                            .num_rows = std::min(rows_per_item, rows - row),
                            .head_dim = query.dim(1),
                            .key = key.data<T>(),
                            .value = value.data<T>(),
                            .key_stride = key.stride(0),
                            .value_stride = value.stride(0),
                            .num_keys = key.dim(0),
                            .visible_keys = inputs.causal ? inputs.VisibleKeys(row) : kAllKeys,
                            .scale = inputs.scale,
                            .output = out.data<T>() + row * out.stride(0),
                            .output_stride = out.stride(0)};
    const int64_t row_of_all = head * rows + row;
    if (!log_sum_exp.empty()) group.log_sum_exp = log_sum_exp.data<float>() + row_of_all;
    if (!column_sums.empty()) {
      group.column_sums = column_sums.data<float>() + item * key.dim(0);
      group.previous_log_sum_exp = previous_log_sum_exp.data<float>() + row_of_all;
    }
    return group;
  }
};

template <typename T>
void Run(Context& context, const DenseCall<T>& call) {
  const int64_t items = call.Items();
  const int64_t scratch_floats =
      AttentionScratchFloats(call.inputs.query.dim(3), call.inputs.query.dtype());
  Workspace::Scope scope(context.workspace());
  float* scratch =
      context.workspace().Allocate({context.threads(), scratch_floats}, DType::kF32).data<float>();
  if (context.IsPlanning()) return;
  ParallelForDynamic(context, items, [&](int64_t i, int thread) {
    AttentionGroup<T> group = call.ItemInOrder(i);
    AttentionGroup<T> next;
    if (i + context.threads() < items) {
      next = call.ItemInOrder(i + context.threads());
      group.next = &next;
    }
    AttendGroup(group, scratch + thread * scratch_floats);
  });
}

}  // namespace

void DenseAttention(Context& context, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp) {
  WithElementType(inputs.query.dtype(), [&](auto element) {
    Run(context,
        DenseCall<decltype(element)>{.inputs = inputs,
                                     .rows_per_item = RowsPerItem(inputs, context.threads()),
                                     .output = output,
                                     .log_sum_exp = log_sum_exp});
  });
}

void DenseAttentionColumnSums(Context& context, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums) {
  WithElementType(inputs.query.dtype(), [&](auto element) {
    Run(context, DenseCall<decltype(element)>{.inputs = inputs,
                                              .rows_per_item = group_size,
                                              .output = output,
                                              .log_sum_exp = log_sum_exp,
                                              .previous_log_sum_exp = previous_log_sum_exp,
                                              .column_sums = column_sums});
  });
}

}  // namespace tamias::cpu
