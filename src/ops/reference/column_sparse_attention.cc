// Column-sparse attention, read off its definition with double accumulators: softmax over the
// columns chosen for a row's group that the row sees, then the combination with the cached part.
#include "ops/column_sparse_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

namespace tamias::reference {
namespace {

const float* Row(const ConstTensorView& tensor, int64_t b, int64_t h, int64_t i) {
  return tensor.data<float>() + b * tensor.stride(0) + h * tensor.stride(1) + i * tensor.stride(2);
}

// attended = A_S of one row over those of the listed columns that it sees; returns lse_S.
double AttendRow(const AttentionInputs& inputs, int64_t b, int64_t h, int64_t row,
                 std::span<const int32_t> indices, std::vector<double>& attended) {
  const float* query = Row(inputs.query, b, h, row);
  size_t count = indices.size();
  while (count > 0 && indices[count - 1] >= inputs.VisibleKeys(row)) --count;
  std::vector<double> scores(count, 0.0);
  double maximum = -std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < scores.size(); ++j) {
    const float* key = Row(inputs.key, b, h, indices[j]);
    for (size_t k = 0; k < attended.size(); ++k) scores[j] += double{query[k]} * key[k];
    scores[j] *= double{inputs.scale};
    maximum = std::max(maximum, scores[j]);
  }
  std::fill(attended.begin(), attended.end(), 0.0);
  if (count == 0) return maximum;
  double sum = 0;
  for (size_t j = 0; j < scores.size(); ++j) {
    const float* value = Row(inputs.value, b, h, indices[j]);
    const double weight = std::exp(scores[j] - maximum);
    sum += weight;
    for (size_t k = 0; k < attended.size(); ++k) attended[k] += weight * value[k];
  }
  for (double& a : attended) a /= sum;
  return maximum + std::log(sum);
}

// The weights of A_S and of the base in the output.
struct Weights {
  double attended = 1;
  double base = 1;
};

Weights MergeWeights(double lse, double base_lse) {
  const double maximum = std::max(lse, base_lse);
  if (std::isinf(maximum)) return {0, 0};
  const double a = std::exp(lse - maximum);
  const double b = std::exp(base_lse - maximum);
  return {a / (a + b), b / (a + b)};
}

}  // namespace

void ColumnSparseAttention(Context&, const AttentionInputs& inputs,
                           const ColumnSelection& selection,
                           const SparseAttentionEpilogue& epilogue, TensorView output,
                           TensorView log_sum_exp) {
  const int64_t heads = inputs.query.dim(1);
  const int64_t rows = inputs.query.dim(2);
  const int64_t groups = selection.counts.dim(2);
  const int64_t capacity = selection.indices.dim(3);
  const int64_t dense_rows = selection.dense_rows;
  std::vector<int32_t> all(static_cast<size_t>(inputs.key.dim(2)));
  std::iota(all.begin(), all.end(), 0);
  std::vector<double> attended(static_cast<size_t>(inputs.query.dim(3)));
  for (int64_t i = 0; i < inputs.query.dim(0) * heads * rows; ++i) {
    const int64_t b = i / rows / heads;
    const int64_t h = i / rows % heads;
    const int64_t row = i % rows;
    float* to = const_cast<float*>(Row(output, b, h, row));
    if (row < dense_rows) {
      AttendRow(inputs, b, h, row, all, attended);
      for (size_t k = 0; k < attended.size(); ++k) to[k] = static_cast<float>(attended[k]);
      continue;
    }
    const int64_t grouped_row = row - dense_rows;
    const int64_t row_of_all = i / rows * (rows - dense_rows) + grouped_row;
    const int64_t group = i / rows * groups + grouped_row / selection.group_size;
    const double lse = AttendRow(inputs, b, h, row,
                                 {selection.indices.data<int32_t>() + group * capacity,
                                  static_cast<size_t>(selection.counts.data<int32_t>()[group])},
                                 attended);
    Weights weights{.attended = double{epilogue.scale}};
    if (!epilogue.base_log_sum_exp.empty()) {
      weights = MergeWeights(lse, double{epilogue.base_log_sum_exp.data<float>()[row_of_all]});
    }
    const float* base = epilogue.base.empty() ? nullptr : Row(epilogue.base, b, h, grouped_row);
    for (size_t k = 0; k < attended.size(); ++k) {
      const double cached = base == nullptr ? 0.0 : weights.base * base[k];
      to[k] = static_cast<float>(cached + weights.attended * attended[k]);
    }
    if (!log_sum_exp.empty()) log_sum_exp.data<float>()[row_of_all] = static_cast<float>(lse);
  }
}

}  // namespace tamias::reference
