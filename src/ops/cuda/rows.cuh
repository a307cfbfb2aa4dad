// Where the rows of a strided tensor begin: rows are counted over all axes but the last, in
// row-major order.
#pragma once

#include "base/cuda/runtime.cuh"
#include "tamias/tensor.h"

namespace tamias::cuda {

// The offset in elements of row r. Axes that follow each other in memory count as one, so that the
// usual tensors need no division.
class RowOffsets {
 public:
  RowOffsets() = default;
  explicit RowOffsets(const ConstTensorView& view) {
    for (int axis = view.rank() - 2; axis >= 0; --axis) {
      const int64_t size = view.dim(axis), stride = view.stride(axis);
      if (size == 1) continue;
      if (axes_ > 0 && stride == strides_[axes_ - 1] * sizes_[axes_ - 1]) {
        sizes_[axes_ - 1] *= size;
      } else {
        sizes_[axes_] = size;
        strides_[axes_++] = stride;
      }
    }
  }

  __device__ int64_t operator()(int64_t row) const {
    int64_t offset = 0;
    for (int axis = 0; axis + 1 < axes_; ++axis) {
      offset += row % sizes_[axis] * strides_[axis];
      row /= sizes_[axis];
    }
    return axes_ == 0 ? 0 : offset + row * strides_[axes_ - 1];
  }

 private:
  int axes_ = 0;  // the fastest first
  int64_t sizes_[Shape::kMaxRank] = {};
  int64_t strides_[Shape::kMaxRank] = {};
};

inline int64_t NumRows(const ConstTensorView& view) {
  return view.dim(-1) == 0 ? 0 : view.NumElements() / view.dim(-1);
}

}  // namespace tamias::cuda
