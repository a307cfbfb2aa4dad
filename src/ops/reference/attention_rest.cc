// The attention's rest, row by row in double precision.
#include "ops/attention_rest.h"

#include <cmath>
#include <limits>

#include "ops/reference/elements.h"

namespace tamias::reference {

void AttentionRest(Context&, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp) {
  ForEachIndex(rest_log_sum_exp.shape(), [&](const Shape& row) {
    const double lse = Get(partition.log_sum_exp, row);
    const double weight = std::exp(std::min(0.0, Get(partition.selected_log_sum_exp, row) - lse));
    const bool is_nothing = !(1 - weight > kMinRestShare);
    Set(rest_log_sum_exp, row,
        is_nothing ? -std::numeric_limits<double>::infinity() : lse + std::log(1 - weight));
    for (int64_t k = 0; k < rest.dim(3); ++k) {
      const Shape i = {row[0], row[1], row[2], k};
      const double value = (Get(partition.output, i) - weight * Get(rest, i)) / (1 - weight);
      Set(rest, i, is_nothing ? 0 : value);
    }
  });
}

}  // namespace tamias::reference
