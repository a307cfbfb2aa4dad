// Rotary position embedding tables: for each token with coordinates ids[s] and each rotary axis a
// of width D_a, the angles ids[s][a] * theta^(-2i / D_a), i < D_a / 2, as cos and sin [S, D], D =
// sum of D_a, each angle twice in a row: pairs (2i, 2i + 1) rotate together (Su et al.,
// 2104.09864).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/tensor.h"

namespace tamias {

class JsonObject;

struct RotaryTable {
  Tensor cos;  // [S, D] f32
  Tensor sin;  // [S, D] f32
};

// ids [S, axes] f32: one coordinate per axis; axes_dims: the even widths D_a, one per axis. The
// angles are computed in double precision and rounded once. Throws kInvalidArgument on a mismatch.
RotaryTable RotaryPositions(ConstTensorView ids, std::span<const int64_t> axes_dims,
                            double theta = 10000.0);

// The widths of a head's rotary axes time, height and width from a model's config: three even
// numbers whose sum is head_dim. Throws kInvalidFile naming the field.
std::array<int64_t, 3> RotaryAxes(const JsonObject& json, const char* field, int64_t head_dim);

}  // namespace tamias
