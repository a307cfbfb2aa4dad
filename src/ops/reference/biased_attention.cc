// Softmax attention with bias or causal mask, row by row in double precision.
#include "ops/biased_attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/reference/elements.h"

namespace tamias::reference {
namespace {

// The softmax weights of one query row, causal keys only.
std::vector<double> RowWeights(const BiasedAttentionInputs& inputs, const Shape& row) {
  const int64_t keys = inputs.causal ? row[2] + 1 : inputs.key.dim(2);
  std::vector<double> weights;
  for (int64_t j = 0; j < keys; ++j) {
    double score = 0;
    for (int64_t k = 0; k < inputs.query.dim(3); ++k) {
      score += Get(inputs.query, With(row, k)) * Get(inputs.key, {row[0], row[1], j, k});
    }
    score *= static_cast<double>(inputs.scale);
    if (!inputs.bias.empty()) {
      score += Get(inputs.bias, {inputs.bias.dim(0) == 1 ? 0 : row[1], row[2], j});
    }
    weights.push_back(score);
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - largest);
  for (double& weight : weights) weight /= sum;
  return weights;
}

}  // namespace

void BiasedAttention(Context&, const BiasedAttentionInputs& inputs, TensorView output) {
  ForEachIndex(LeadingAxes(output.shape()), [&](const Shape& row) {
    const std::vector<double> weights = RowWeights(inputs, row);
    for (int64_t k = 0; k < output.dim(3); ++k) {
      double sum = 0;
      for (size_t j = 0; j < weights.size(); ++j) {
        sum += weights[j] * Get(inputs.value, {row[0], row[1], static_cast<int64_t>(j), k});
      }
      Set(output, With(row, k), sum);
    }
  });
}

}  // namespace tamias::reference
