// Tensors of one shape seen as rows that are contiguous in every one of them: what the element-wise
// and row-wise operations loop over.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/parallel.h"
#include "tamias/tensor.h"

namespace tamias::cpu {

// Elements that are worth waking a thread for: some microseconds of memory traffic.
constexpr int64_t kElementsPerTask = 16384;

// The first axes of kViews tensors of one shape, with as few axes as their strides allow.
template <size_t kViews>
class Rows {
 public:
  // merge_width: the last axis may grow as well, for operations that look at one element at a time.
  Rows(const std::array<const ConstTensorView*, kViews>& views, bool merge_width) {
    const Shape& shape = views[0]->shape();
    width_ = shape.rank() > 0 ? shape[shape.rank() - 1] : 1;
    for (int axis = shape.rank() - 2; axis >= 0; --axis) {
      if (shape[axis] == 1) continue;
      if (merge_width && rank_ == 0 && Follows(views, axis, width_)) {
        width_ *= shape[axis];
        continue;
      }
      if (rank_ > 0 && FollowsAxis(views, axis)) {
        dims_[rank_ - 1] *= shape[axis];
        continue;
      }
      dims_[rank_] = shape[axis];
      for (size_t v = 0; v < kViews; ++v) strides_[rank_][v] = views[v]->stride(axis);
      ++rank_;
    }
    for (size_t axis = 0; axis < rank_; ++axis) count_ *= dims_[axis];
  }

  int64_t count() const { return count_; }
  int64_t width() const { return width_; }
  // All rows lie at one distance from each other: offset = row * stride(view).
  bool is_uniform() const { return rank_ <= 1; }
  int64_t stride(size_t view) const { return rank_ == 0 ? 0 : strides_[0][view]; }

  // Where a row begins in each tensor, in elements.
  std::array<int64_t, kViews> Offsets(int64_t row) const {
    std::array<int64_t, kViews> offsets{};
    for (size_t axis = 0; axis < rank_; ++axis) {
      const int64_t index = axis + 1 < rank_ ? row % dims_[axis] : row;
      row /= dims_[axis];
      for (size_t v = 0; v < kViews; ++v) offsets[v] += index * strides_[axis][v];
    }
    return offsets;
  }

 private:
  static bool Follows(const std::array<const ConstTensorView*, kViews>& views, int axis,
                      int64_t elements) {
    return std::all_of(views.begin(), views.end(),
                       [&](const ConstTensorView* view) { return view->stride(axis) == elements; });
  }
  bool FollowsAxis(const std::array<const ConstTensorView*, kViews>& views, int axis) const {
    for (size_t v = 0; v < kViews; ++v) {
      if (views[v]->stride(axis) != strides_[rank_ - 1][v] * dims_[rank_ - 1]) return false;
    }
    return true;
  }

  // Innermost axis first.
  std::array<int64_t, Shape::kMaxRank> dims_{};
  std::array<std::array<int64_t, kViews>, Shape::kMaxRank> strides_{};
  size_t rank_ = 0;
  int64_t count_ = 1;
  int64_t width_ = 1;
};

// body(offsets, count) over runs of elements that together cover the tensors, on all threads.
template <size_t kViews, typename Body>
void ForEachRun(const Context& context, const std::array<const ConstTensorView*, kViews>& views,
                const Body& body) {
  const Rows<kViews> rows(views, /*merge_width=*/true);
  if (rows.count() == 1) {
    ParallelForRanges(context, rows.width(), kElementsPerTask,
                      [&](int64_t begin, int64_t end, int) {
                        std::array<int64_t, kViews> offsets;
                        offsets.fill(begin);
                        body(offsets, static_cast<size_t>(end - begin));
                      });
    return;
  }
  if (rows.width() == 0) return;
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / rows.width());
  ParallelForRanges(context, rows.count(), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      body(rows.Offsets(row), static_cast<size_t>(rows.width()));
    }
  });
}

// body(offsets of the row) for every row of the last axis, on all threads.
template <size_t kViews, typename Body>
void ForEachRow(const Context& context, const std::array<const ConstTensorView*, kViews>& views,
                const Body& body) {
  const Rows<kViews> rows(views, /*merge_width=*/false);
  const int64_t grain = std::max<int64_t>(1, kElementsPerTask / std::max<int64_t>(1, rows.width()));
  ParallelForRanges(context, rows.count(), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) body(rows.Offsets(row));
  });
}

}  // namespace tamias::cpu
