// RMS norm and rotary embedding of each head, in double precision.
#include "ops/rotary.h"

#include <cmath>
#include <vector>

#include "ops/reference/elements.h"

namespace tamias::reference {

void RmsNormRotary(Context&, ConstTensorView input, ConstTensorView norm_weight, float epsilon,
                   ConstTensorView cosine, ConstTensorView sine, TensorView output) {
  const int64_t dim = input.dim(3);
  const auto angle = [](const ConstTensorView& table, const Shape& row, int64_t k) {
    return table.rank() == 3 ? Get(table, {row[1], row[2], k}) : Get(table, {row[2], k});
  };
  std::vector<double> x(static_cast<size_t>(dim));
  ForEachIndex(LeadingAxes(input.shape()), [&](const Shape& row) {
    double square = 0;
    for (int64_t k = 0; k < dim; ++k) {
      x[static_cast<size_t>(k)] = Get(input, With(row, k));
      square += std::pow(Get(input, With(row, k)), 2);
    }
    if (!norm_weight.empty()) {
      const double rms =
          std::sqrt(square / static_cast<double>(dim) + static_cast<double>(epsilon));
      for (int64_t k = 0; k < dim; ++k) {
        x[static_cast<size_t>(k)] *= Get(norm_weight, {k}) / rms;
      }
    }
    for (int64_t k = 0; k < dim; ++k) {
      double y = x[static_cast<size_t>(k)];
      if (!cosine.empty()) {
        const double partner =
            k % 2 == 0 ? -x[static_cast<size_t>(k + 1)] : x[static_cast<size_t>(k - 1)];
        y = y * angle(cosine, row, k) + partner * angle(sine, row, k);
      }
      Set(output, With(row, k), y);
    }
  });
}

}  // namespace tamias::reference
