// Column-sparse attention on a CPU: hands the groups to the threads, the large ones first;
// the work is in attention_group.cc.
#include "ops/column_sparse_attention.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/parallel.h"
#include "ops/cpu/attention_group.h"
#include "ops/cpu/elements.h"

namespace tamias::cpu {
namespace {

// The rows of one head from `row` on.
ConstTensorView Rows(const ConstTensorView& tensor, int64_t b, int64_t h, int64_t row,
                     int64_t count) {
  return tensor.Select(0, b).Select(0, h).Slice(0, row, row + count);
}

// Groups are handed out by falling power of two of their columns, so that none of the largest is
// left to the end, and head by head within it, so that a head's keys and values stay in the cache.
int SizeClass(int32_t count) { return std::bit_width(static_cast<uint32_t>(count)); }

template <typename T>
struct SparseCall {
  const AttentionInputs& inputs;
  const ColumnSelection& selection;
  const SparseAttentionEpilogue& epilogue;
  TensorView output;
  TensorView log_sum_exp;

  // The work of list `item` of [B, H, G].
  AttentionGroup<T> Item(int64_t item) const {
    const int64_t rows = inputs.query.dim(2);
    const int64_t groups = selection.counts.dim(2);
    const int64_t head = item / groups;  // of all batch items
    const int64_t b = head / inputs.query.dim(1);
    const int64_t h = head % inputs.query.dim(1);
    const int64_t row = item % groups * selection.group_size;
    const int64_t num_rows = std::min(selection.group_size, rows - row);
    const ConstTensorView query = Rows(inputs.query, b, h, row, num_rows);
    const TensorView out = output.Select(0, b).Select(0, h).Slice(0, row, row + num_rows);
    const ConstTensorView key = inputs.key.Select(0, b).Select(0, h);
    const ConstTensorView value = inputs.value.Select(0, b).Select(0, h);
    AttentionGroup<T> group{
        .query = query.data<T>(),
        .query_stride = query.stride(0),
        .num_rows = num_rows,
        .head_dim = query.dim(1),
        .key = key.data<T>(),
        .value = value.data<T>(),
        .key_stride = key.stride(0),
        .value_stride = value.stride(0),
        .indices = selection.indices.data<int32_t>() + item * selection.indices.dim(3),
        .num_keys = selection.counts.data<int32_t>()[item],
        .visible_keys = inputs.causal ? inputs.VisibleKeys(row) : kAllKeys,
        .scale = inputs.scale,
        .output = out.data<T>(),
        .output_stride = out.stride(0),
        .output_scale = epilogue.scale};
    if (!epilogue.base.empty()) {
      const ConstTensorView base = Rows(epilogue.base, b, h, row, num_rows);
      group.base = base.data<T>();
      group.base_stride = base.stride(0);
    }
    const int64_t row_of_all = head * rows + row;
    if (!epilogue.base_log_sum_exp.empty()) {
      group.base_log_sum_exp = epilogue.base_log_sum_exp.data<float>() + row_of_all;
    }
    if (!log_sum_exp.empty()) group.log_sum_exp = log_sum_exp.data<float>() + row_of_all;
    return group;
  }
};

template <typename T>
void Run(Context& context, const SparseCall<T>& call) {
  const int64_t items = call.selection.counts.NumElements();
  const int64_t scratch_floats =
      AttentionScratchFloats(call.inputs.query.dim(3), call.inputs.query.dtype());
  const int32_t* counts = call.selection.counts.template data<int32_t>();

  Workspace::Scope scope(context.workspace());
  float* scratch =
      context.workspace().Allocate({context.threads(), scratch_floats}, DType::kF32).data<float>();
  int64_t* order = context.workspace().Allocate({items}, DType::kI64).data<int64_t>();
  if (context.IsPlanning()) return;
  std::iota(order, order + items, int64_t{0});
  std::sort(order, order + items, [counts](int64_t a, int64_t b) {
    const int class_a = SizeClass(counts[a]);
    const int class_b = SizeClass(counts[b]);
    return class_a != class_b ? class_a > class_b : a < b;
  });

  ParallelForDynamic(context, items, [&](int64_t i, int thread) {
    AttentionGroup<T> group = call.Item(order[i]);
    AttentionGroup<T> next;
    if (i + context.threads() < items) {
      next = call.Item(order[i + context.threads()]);
      group.next = &next;
    }
    AttendGroup(group, scratch + thread * scratch_floats);
  });
}

}  // namespace

void ColumnSparseAttention(Context& context, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp) {
  WithElementType(inputs.query.dtype(), [&](auto element) {
    Run(context, SparseCall<decltype(element)>{inputs, selection, epilogue, output, log_sum_exp});
  });
}

}  // namespace tamias::cpu
