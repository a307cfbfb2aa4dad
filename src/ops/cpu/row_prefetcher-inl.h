// Fetching rows, gathered or not, while others are worked on. Highway target code, so that it is
// inlined into the loops it runs in; include it after foreach_target.h.
#if defined(TAMIAS_OPS_CPU_ROW_PREFETCHER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TAMIAS_OPS_CPU_ROW_PREFETCHER_INL_H_
#undef TAMIAS_OPS_CPU_ROW_PREFETCHER_INL_H_
#else
#define TAMIAS_OPS_CPU_ROW_PREFETCHER_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {

// Rows that will be needed: of `a`, and of `b` unless null. Row i is indices[i], or i without
// indices.
template <typename T>
struct RowList {
  const T* a = nullptr;
  int64_t a_stride = 0;
  const T* b = nullptr;
  int64_t b_stride = 0;
  const int32_t* indices = nullptr;
  int64_t count = 0;
};

// Fetches rows into the L2 cache, two cache lines at a time in between the work of the tiles:
// gathered rows are beyond the hardware prefetcher, and many lines at once would fill the line
// buffers, which loads that miss the L1 cache need too.
template <typename T>
class RowPrefetcher {
 public:
  explicit RowPrefetcher(int64_t head_dim) : head_dim_(head_dim) {}

  void Add(const RowList<T>& list) {
    lists_[num_lists_++] = list;
    count_ += list.count;
  }

  // Lists the lines of part `part` of `parts` of the rows; calls fetch them from then on.
  void Begin(int64_t part, int64_t parts) {
    lines_[0] = nullptr;
    next_ = lines_;
    end_ = lines_;
    int64_t begin = count_ * part / parts;
    int64_t end = count_ * (part + 1) / parts;
    for (int i = 0; i < num_lists_; ++i) {
      const int64_t stop = HWY_MIN(end, lists_[i].count);
      for (int64_t row = begin; row < stop; ++row) ListRow(lists_[i], row);
      begin = HWY_MAX(begin - lists_[i].count, 0);
      end -= lists_[i].count;
    }
    *end_ = lines_[0];  // calls read pairs
  }

  // Inlined: GCC 12 takes a function that only prefetches for one without effect and drops calls.
  HWY_INLINE void operator()() {
    if (next_ >= end_) return;
    __builtin_prefetch(next_[0], 0, 2);
    __builtin_prefetch(next_[1], 0, 2);
    next_ += 2;
  }

 private:
  void ListRow(const RowList<T>& list, int64_t row) {
    const int64_t index = list.indices != nullptr ? list.indices[row] : row;
    for (int64_t k = 0; k < head_dim_ && end_ + 2 <= lines_ + kMaxLines; k += kElementsPerLine) {
      *end_++ = list.a + index * list.a_stride + k;
      if (list.b != nullptr) *end_++ = list.b + index * list.b_stride + k;
    }
  }

  static constexpr int64_t kMaxLines = 1024;
  static constexpr int64_t kElementsPerLine = 64 / static_cast<int64_t>(sizeof(T));
  RowList<T> lists_[3];
  int num_lists_ = 0;
  int64_t head_dim_;
  int64_t count_ = 0;  // rows of all lists
  const T* lines_[kMaxLines + 1];
  const T** next_ = lines_;
  const T** end_ = lines_;
};

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#endif  // TAMIAS_OPS_CPU_ROW_PREFETCHER_INL_H_
