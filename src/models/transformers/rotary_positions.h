// Rotary position embedding tables: for each token with coordinates ids[s] and each rotary axis a
// of width D_a, the angles ids[s][a] * theta^(-2i / D_a), i < D_a / 2, as cos and sin [S, D], D =
// sum of D_a, each angle twice in a row: pairs (2i, 2i + 1) rotate together (Su et al.,
// 2104.09864).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "tamias/context.h"
#include "tamias/device_memory.h"
#include "tamias/tensor.h"

namespace tamias {

class JsonObject;

// Views on a context's device, in its workspace.
struct RotaryTable {
  ConstTensorView cos;  // [S, D] f32
  ConstTensorView sin;  // [S, D] f32
};

// ids [S, axes] f32 in memory of the host: one coordinate per axis; axes_dims: the even widths D_a,
// one per axis. The angles are computed by the host in double precision and rounded once. The table
// is valid in the caller's scope. Throws kInvalidArgument on a mismatch.
RotaryTable RotaryPositions(Context& context, ConstTensorView ids,
                            std::span<const int64_t> axes_dims, double theta = 10000.0);

// A table of any shape, likewise. fill(cos, sin) writes contiguous tensors of the host; it is not
// called when planning.
template <typename Fill>
RotaryTable MakeRotaryTable(Context& context, const Shape& shape, const Fill& fill) {
  const TensorView cos = context.workspace().Allocate(shape, DType::kF32);
  const TensorView sin = context.workspace().Allocate(shape, DType::kF32);
  if (context.IsPlanning()) return {cos, sin};
  if (!context.IsOnGpu()) {
    fill(cos, sin);
    return {cos, sin};
  }
  Tensor host_cos(shape, DType::kF32), host_sin(shape, DType::kF32);
  fill(host_cos.view(), host_sin.view());
  CopyToDevice(context, host_cos, cos);
  CopyToDevice(context, host_sin, sin);
  return {cos, sin};
}

// The widths of a head's rotary axes time, height and width from a model's config: three even
// numbers whose sum is head_dim. Throws kInvalidFile naming the field.
std::array<int64_t, 3> RotaryAxes(const JsonObject& json, const char* field, int64_t head_dim);

}  // namespace tamias
