// Rotary position tables: see the header.
#include "models/transformers/rotary_positions.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"
#include "io/json.h"
#include "ops/check_tensor.h"

namespace tamias {

RotaryTable RotaryPositions(Context& context, ConstTensorView ids,
                            std::span<const int64_t> axes_dims, double theta) {
  CheckTensor("rotary positions", "ids", ids, DType::kF32,
              {-1, static_cast<int64_t>(axes_dims.size())});
  for (const int64_t dim : axes_dims) {
    if (dim <= 0 || dim % 2 != 0) {
      Fail(ErrorCode::kInvalidArgument,
           "rotary positions: axes_dims: expected positive even widths, found {}", dim);
    }
  }
  const int64_t tokens = ids.dim(0);
  const int64_t width = std::accumulate(axes_dims.begin(), axes_dims.end(), int64_t{0});
  return MakeRotaryTable(context, {tokens, width}, [&](TensorView cos_table, TensorView sin_table) {
    float* cos = cos_table.host_data<float>();
    float* sin = sin_table.host_data<float>();
    for (int64_t token = 0; token < tokens; ++token) {
      for (size_t axis = 0; axis < axes_dims.size(); ++axis) {
        const auto dim = static_cast<double>(axes_dims[axis]);
        const double position = ids.host_data<float>()[token * ids.stride(0) +
                                                       static_cast<int64_t>(axis) * ids.stride(1)];
        for (int64_t i = 0; i < axes_dims[axis]; i += 2) {
          const double angle = position / std::pow(theta, static_cast<double>(i) / dim);
          cos[0] = cos[1] = static_cast<float>(std::cos(angle));
          sin[0] = sin[1] = static_cast<float>(std::sin(angle));
          cos += 2;
          sin += 2;
        }
      }
    }
  });
}

std::array<int64_t, 3> RotaryAxes(const JsonObject& json, const char* field, int64_t head_dim) {
  const std::vector<int64_t> found = json.IntArrayOr(field, {16, 56, 56}, {2, 4096});
  std::array<int64_t, 3> axes = {};
  if (found.size() != axes.size()) {
    json.FailField(field, fmt::format("expected 3 numbers, found {}", found.size()));
  }
  std::ranges::copy(found, axes.begin());
  const bool is_even = std::ranges::all_of(axes, [](int64_t width) { return width % 2 == 0; });
  if (!is_even || std::accumulate(axes.begin(), axes.end(), int64_t{0}) != head_dim) {
    json.FailField(
        field, fmt::format("expected even widths whose sum is attention_head_dim = {}", head_dim));
  }
  return axes;
}

}  // namespace tamias
