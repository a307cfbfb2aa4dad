// The attention's rest: rows on all threads, shares in double precision.
#include "ops/attention_rest.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/parallel.h"
#include "ops/cpu/elements.h"

namespace tamias::cpu {
namespace {

template <typename Full, typename Rest>
void TakeRest(Context& context, const AttentionPartition& partition, TensorView rest,
              TensorView rest_log_sum_exp) {
  const ConstTensorView& output = partition.output;
  const int64_t heads = rest.dim(1), tokens = rest.dim(2), head_dim = rest.dim(3);
  constexpr int64_t kGrain = 256;  // rows
  ParallelForRanges(
      context, rest.dim(0) * heads * tokens, kGrain, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
          const int64_t token = row % tokens, head = row / tokens % heads;
          const int64_t batch = row / tokens / heads;
          const Full* full = output.data<Full>() + batch * output.stride(0) +
                             head * output.stride(1) + token * output.stride(2);
          Rest* out = rest.data<Rest>() + batch * rest.stride(0) + head * rest.stride(1) +
                      token * rest.stride(2);
          const double total = partition.log_sum_exp.data<float>()[row];
          const double exponent = double{partition.selected_log_sum_exp.data<float>()[row]} - total;
          const double share = -std::expm1(std::min(exponent, 0.0));  // 1 - w
          if (!(share > kMinRestShare)) {
            rest_log_sum_exp.data<float>()[row] = -std::numeric_limits<float>::infinity();
            std::fill(out, out + head_dim, Rest());
            continue;
          }
          rest_log_sum_exp.data<float>()[row] = static_cast<float>(total + std::log(share));
          const auto full_weight = static_cast<float>(1 / share);
          const auto selected_weight = static_cast<float>((1 - share) / share);
          for (int64_t k = 0; k < head_dim; ++k) {
            SetFloat(full_weight * ToFloat(full[k]) - selected_weight * ToFloat(out[k]), out[k]);
          }
        }
      });
}

}  // namespace

void AttentionRest(Context& context, const AttentionPartition& partition, TensorView rest,
                   TensorView rest_log_sum_exp) {
  WithElementType(partition.output.dtype(), [&](auto full) {
    WithElementType(rest.dtype(), [&](auto element) {
      TakeRest<decltype(full), decltype(element)>(context, partition, rest, rest_log_sum_exp);
    });
  });
}

}  // namespace tamias::cpu
