// Top-k selections by sorting.
#include "ops/top_k.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "ops/mask.h"
#include "tamias/random.h"

namespace tamias::reference {
namespace {

std::vector<float> RowWithoutNan(const ConstTensorView& scores, int64_t row) {
  const float* begin = scores.data<float>() + row * scores.stride(0);
  std::vector<float> values(begin, begin + scores.dim(1));
  for (float& value : values) {
    if (std::isnan(value)) value = -std::numeric_limits<float>::infinity();
  }
  return values;
}

void SelectRow(const std::vector<float>& values, int64_t k, int64_t row, TensorView mask) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return values[a] > values[b]; });
  order.resize(static_cast<size_t>(std::min<int64_t>(k, static_cast<int64_t>(order.size()))));
  for (const int64_t j : order) SetMaskRange(mask, row, j, j + 1);
}

}  // namespace

void TopKMask(Context&, ConstTensorView scores, int64_t k, TensorView mask) {
  for (int64_t r = 0; r < scores.dim(0); ++r) SelectRow(RowWithoutNan(scores, r), k, r, mask);
}

void ApproximateTopKMask(Context&, ConstTensorView scores, int64_t k, int64_t sample_size,
                         uint64_t seed, TensorView mask) {
  const int64_t n = scores.dim(1);
  if (k == 0) return;
  for (int64_t r = 0; r < scores.dim(0); ++r) {
    const std::vector<float> values = RowWithoutNan(scores, r);
    if (n <= sample_size || k >= n) {
      SelectRow(values, k, r, mask);
      continue;
    }
    std::vector<float> sample;
    for (int64_t i = 0; i < sample_size; ++i) {
      const uint64_t random = CounterRandom(seed, static_cast<uint64_t>(r * sample_size + i));
      sample.push_back(values[(random * static_cast<uint64_t>(n)) >> 32]);
    }
    std::sort(sample.begin(), sample.end(), std::greater<>());
    const float threshold = sample[ApproximateTopKRank(k, n, sample_size) - 1];
    for (int64_t j = 0; j < n; ++j) {
      if (values[j] >= threshold) SetMaskRange(mask, r, j, j + 1);
    }
  }
}

}  // namespace tamias::reference
