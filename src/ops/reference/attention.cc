// Dense attention, read off its definition: softmax(scale q k^T) v over the keys that a row sees,
// with double accumulators.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace tamias::reference {
namespace {

const float* Row(const ConstTensorView& tensor, int64_t b, int64_t h, int64_t i) {
  return tensor.data<float>() + b * tensor.stride(0) + h * tensor.stride(1) + i * tensor.stride(2);
}

// scores[j] = scale * q.k_j of the keys that row i sees; returns the log-sum-exp.
double Scores(const AttentionInputs& inputs, int64_t b, int64_t h, int64_t i,
              std::vector<double>& scores) {
  const float* query = Row(inputs.query, b, h, i);
  scores.resize(static_cast<size_t>(inputs.VisibleKeys(i)));
  double maximum = -std::numeric_limits<double>::infinity();
  for (size_t j = 0; j < scores.size(); ++j) {
    const float* key = Row(inputs.key, b, h, static_cast<int64_t>(j));
    double score = 0;
    for (int64_t k = 0; k < inputs.query.dim(3); ++k) score += double{query[k]} * key[k];
    scores[j] = double{inputs.scale} * score;
    maximum = std::max(maximum, scores[j]);
  }
  if (scores.empty()) return maximum;
  double sum = 0;
  for (const double score : scores) sum += std::exp(score - maximum);
  return maximum + std::log(sum);
}

// output = sum_j exp(scores[j] - log_sum_exp) v_j.
void WeightValues(const AttentionInputs& inputs, int64_t b, int64_t h,
                  const std::vector<double>& scores, double log_sum_exp, float* output) {
  std::vector<double> sum(static_cast<size_t>(inputs.query.dim(3)), 0.0);
  for (size_t j = 0; j < scores.size(); ++j) {
    const float* value = Row(inputs.value, b, h, static_cast<int64_t>(j));
    const double weight = std::exp(scores[j] - log_sum_exp);
    for (size_t k = 0; k < sum.size(); ++k) sum[k] += weight * value[k];
  }
  for (size_t k = 0; k < sum.size(); ++k) output[k] = static_cast<float>(sum[k]);
}

}  // namespace

void DenseAttention(Context& context, const AttentionInputs& inputs, TensorView output,
                    TensorView log_sum_exp) {
  reference::DenseAttentionColumnSums(context, inputs, {}, 1, output, log_sum_exp, {});
}

void DenseAttentionColumnSums(Context&, const AttentionInputs& inputs,
                              ConstTensorView previous_log_sum_exp, int64_t group_size,
                              TensorView output, TensorView log_sum_exp, TensorView column_sums) {
  const int64_t heads = inputs.query.dim(1);
  const int64_t rows = inputs.query.dim(2);
  const size_t keys = static_cast<size_t>(inputs.key.dim(2));
  std::vector<double> scores;
  std::vector<double> sums(keys, 0.0);
  for (int64_t i = 0; i < inputs.query.dim(0) * heads * rows; ++i) {
    const int64_t b = i / rows / heads;
    const int64_t h = i / rows % heads;
    const int64_t row = i % rows;
    const double lse = Scores(inputs, b, h, row, scores);
    WeightValues(inputs, b, h, scores, lse, const_cast<float*>(Row(output, b, h, row)));
    if (!column_sums.empty()) {
      const double previous = double{previous_log_sum_exp.data<float>()[i]};
      for (size_t j = 0; j < scores.size(); ++j) sums[j] += std::exp(scores[j] - previous);
      if ((row + 1) % group_size == 0 || row + 1 == rows) {
        const int64_t groups = (rows + group_size - 1) / group_size;
        const int64_t group = i / rows * groups + row / group_size;
        float* to = column_sums.data<float>() + group * inputs.key.dim(2);
        for (size_t j = 0; j < keys; ++j) to[j] = static_cast<float>(sums[j]);
        std::fill(sums.begin(), sums.end(), 0.0);
      }
    }
    if (!log_sum_exp.empty()) log_sum_exp.data<float>()[i] = static_cast<float>(lse);
  }
}

}  // namespace tamias::reference
