// Attention of one group of query rows over listed key columns. Query rows lie along the SIMD
// lanes: Q is transposed once into panels Q^T [D][lanes]; S^T = K Q^T and O^T += V^T P^T read the
// rows of K and V in place (panel_kernels-inl.h), and the online softmax (Milakov and Gimelshein,
// arXiv 1805.02867) runs lane by lane without any horizontal step. Loops: blocks of keys outside,
// panels inside, so that a block of K and V serves all rows of the group from the L2 cache.
//
// Scores are in units of log2(e): softmax is computed with powers of two. The running maximum is
// rounded up to an integer, which makes the subtraction part of the rounding inside Exp2, lets it
// move less often, and makes every rescaling of sums and outputs an exact power of two.
//
// Causal groups: keys ascend, so that what a row sees is a prefix of the list. Blocks end with the
// last key that a row of the chunk sees, panels with the last that one of theirs sees; only panels
// of which some rows see less than others are masked.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/attention_group.cc"
#include <hwy/foreach_target.h>
// clang-format off
#include <hwy/highway.h>
// clang-format on

#include "ops/cpu/attention_group.h"

#include <hwy/contrib/math/math-inl.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "ops/cpu/exp2-inl.h"
#include "ops/cpu/panel_kernels-inl.h"

#ifndef TAMIAS_OPS_CPU_ATTENTION_GROUP_ONCE
#define TAMIAS_OPS_CPU_ATTENTION_GROUP_ONCE
namespace tamias::cpu {

// Keys per block: their scores for one panel (10 KiB) stay in the L1 cache. A multiple of the 13 or
// 6 rows of a register tile. Between 65 and 208 the speed hardly depends on it.
inline constexpr int64_t kKeyBlock = 78;
inline constexpr int64_t kMaxPanelLanes = 32;  // two vectors of AVX-512
inline constexpr float kLog2E = 1.44269504f;
inline constexpr float kLn2 = 0.693147181f;
inline constexpr float kLowest = -1e30f;  // stands for -inf, with which differences make NaN

// The parts of a thread's scratch memory, each 64-byte aligned.
struct AttentionScratch {
  explicit AttentionScratch(int64_t head_dim, float* memory = nullptr) : start(memory) {
    query = Take(kAttentionChunkRows * head_dim);
    output = Take(kAttentionChunkRows * head_dim);
    scores = Take(kKeyBlock * kMaxPanelLanes);
    column_parts = Take(kKeyBlock * kMaxPanelLanes / 2);
    maximum = Take(kAttentionChunkRows);
    sum = Take(kAttentionChunkRows);
    reference = Take(kAttentionChunkRows);
    unused_row = Take(head_dim);
  }
  float* Take(int64_t floats) {
    float* part = start + used;
    used += (floats + 15) / 16 * 16;
    return part;
  }

  float* start;
  int64_t used = 0;
  float* query;         // Q^T panels [D][lanes], one after the other
  float* output;        // O^T panels
  float* scores;        // S^T, then P^T, of one block and panel
  float* column_parts;  // [key][lane]: column sums of a block before their reduction
  float* maximum;       // [row] running maximum, an integer
  float* sum;           // [row] sum of 2^(score - maximum)
  float* reference;     // [row] previous log-sum-exp, in units of log2(e)
  float* unused_row;    // where the lanes past the last row write their output
};

}  // namespace tamias::cpu
#endif  // TAMIAS_OPS_CPU_ATTENTION_GROUP_ONCE

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using cpu::AttentionGroup;
using cpu::AttentionScratch;
using cpu::kKeyBlock;
using cpu::kLowest;

// Rows that will be needed: of `a`, and of `b` unless null. Row i is indices[i], or i without
// indices.
struct RowList {
  const float* a = nullptr;
  int64_t a_stride = 0;
  const float* b = nullptr;
  int64_t b_stride = 0;
  const int32_t* indices = nullptr;
  int64_t count = 0;
};

// Fetches rows into the L2 cache, two cache lines at a time in between the work of the tiles:
// gathered rows are beyond the hardware prefetcher, and many lines at once would fill the line
// buffers, which loads that miss the L1 cache need too.
class RowPrefetcher {
 public:
  explicit RowPrefetcher(int64_t head_dim) : head_dim_(head_dim) {}

  void Add(const RowList& list) {
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
  void ListRow(const RowList& list, int64_t row) {
    const int64_t index = list.indices != nullptr ? list.indices[row] : row;
    for (int64_t k = 0; k < head_dim_ && end_ + 2 <= lines_ + kMaxLines; k += 16) {
      *end_++ = list.a + index * list.a_stride + k;
      if (list.b != nullptr) *end_++ = list.b + index * list.b_stride + k;
    }
  }

  static constexpr int64_t kMaxLines = 1024;
  RowList lists_[3];
  int num_lists_ = 0;
  int64_t head_dim_;
  int64_t count_ = 0;  // rows of all lists
  const float* lines_[kMaxLines + 1];
  const float** next_ = lines_;
  const float** end_ = lines_;
};

// Keys [begin, end) of a group and their values.
RowList KeysAndValues(const AttentionGroup& group, int64_t begin, int64_t end) {
  const int64_t first = group.indices != nullptr ? 0 : begin;
  return {.a = group.key + first * group.key_stride,
          .a_stride = group.key_stride,
          .b = group.value + first * group.value_stride,
          .b_stride = group.value_stride,
          .indices = group.indices != nullptr ? group.indices + begin : nullptr,
          .count = end - begin};
}

// One chunk of up to kAttentionChunkRows rows of a group.
class Chunk {
 public:
  Chunk(const AttentionGroup& group, int64_t first_row, AttentionScratch& scratch)
      : group_(group),
        scratch_(scratch),
        first_row_(first_row),
        num_rows_(std::min(group.num_rows - first_row, cpu::kAttentionChunkRows)),
        num_keys_(KeysSeenByAny()) {}

  void Run() {
    ForEachPanel<LoadQuery>();
    if (num_keys_ == 0) {
      std::fill_n(scratch_.output, cpu::kAttentionChunkRows * group_.head_dim, 0.0f);
    }
    if (group_.column_sums != nullptr && first_row_ == 0) {  // keys that later chunks may see
      std::fill(group_.column_sums + num_keys_, group_.column_sums + group_.num_keys, 0.0f);
    }
    const int64_t blocks = CeilDivide(num_keys_, kKeyBlock);
    for (int64_t block = 0; block < blocks; ++block) RunBlock(block, blocks);
    ForEachPanel<StoreOutput>();
  }

 private:
  // The row of `key` that key j of the list is.
  int64_t KeyRow(int64_t j) const { return group_.indices != nullptr ? group_.indices[j] : j; }

  // Row `row` of the chunk sees rows 0 to SeenEnd(row) - 1 of `key`.
  int64_t SeenEnd(int64_t row) const { return group_.visible_keys + first_row_ + row; }

  // How many keys of the list the last row of the chunk sees, which sees most.
  int64_t KeysSeenByAny() const {
    const int64_t end = SeenEnd(num_rows_ - 1);
    if (group_.indices == nullptr) return std::min(group_.num_keys, end);
    if (group_.visible_keys == cpu::kAllKeys) return group_.num_keys;
    return std::lower_bound(group_.indices, group_.indices + group_.num_keys, end) - group_.indices;
  }

  // Calls Step::Call<kVectors>(*this, first row of the panel) for each panel; the last may be half.
  template <class Step, class... Args>
  void ForEachPanel(Args&&... args) {
    for (int64_t row = 0; row < num_rows_; row += PanelLanes()) {
      if (num_rows_ - row > VectorLanes()) {
        Step::template Call<kPanelVectors>(*this, row, args...);
      } else {
        Step::template Call<1>(*this, row, args...);
      }
    }
  }

  // Pointers to `lanes` rows of a matrix; lanes past the last row repeat it.
  void RowPointers(const float* matrix, int64_t stride, int64_t row, int64_t lanes,
                   const float** pointers) const {
    for (int64_t i = 0; i < lanes; ++i) {
      pointers[i] = matrix + (first_row_ + std::min(row + i, num_rows_ - 1)) * stride;
    }
  }

  struct LoadQuery {
    template <int kVectors>
    static void Call(Chunk& chunk, int64_t row) {
      const AttentionGroup& group = chunk.group_;
      AttentionScratch& scratch = chunk.scratch_;
      const int64_t lanes = kVectors * VectorLanes();
      const float* rows[cpu::kMaxPanelLanes];
      chunk.RowPointers(group.query, group.query_stride, row, lanes, rows);
      LoadPanel<kVectors>(rows, group.head_dim, group.scale * cpu::kLog2E,
                          scratch.query + row * group.head_dim);
      std::fill_n(scratch.maximum + row, lanes, kLowest);
      std::fill_n(scratch.sum + row, lanes, 0.0f);
      if (group.column_sums == nullptr) return;
      for (int64_t i = 0; i < lanes; ++i) {  // unused lanes: no weight in the column sums
        const bool used = row + i < chunk.num_rows_;
        scratch.reference[row + i] =
            used ? group.previous_log_sum_exp[chunk.first_row_ + row + i] * cpu::kLog2E
                 : std::numeric_limits<float>::infinity();
      }
    }
  };

  void RunBlock(int64_t block, int64_t blocks) {
    const int64_t begin = num_keys_ * block / blocks;
    const int64_t end = num_keys_ * (block + 1) / blocks;
    for (int64_t j = begin; j < end; ++j) {
      const int64_t index = KeyRow(j);
      keys_[j - begin] = group_.key + index * group_.key_stride;
      values_[j - begin] = group_.value + index * group_.value_stride;
    }
    if (group_.column_sums != nullptr) {
      std::fill_n(scratch_.column_parts, kKeyBlock * VectorLanes(), 0.0f);
    }
    is_on_diagonal_ = KeyRow(end - 1) >= SeenEnd(0);
    if (is_on_diagonal_) CountSeenKeys(begin, end);
    RowPrefetcher prefetcher(group_.head_dim);
    ListRowsAfter(block, blocks, prefetcher);
    if (group_.column_sums != nullptr) {
      ForEachPanel<PanelStep<true>>(end - begin, block == 0, prefetcher);
      ReduceColumnSums(begin, end);
    } else {
      ForEachPanel<PanelStep<false>>(end - begin, block == 0, prefetcher);
    }
  }

  // seen_[row] = how many of the keys [begin, end) a row sees.
  void CountSeenKeys(int64_t begin, int64_t end) {
    int64_t seen_end = begin;
    for (int64_t row = 0; row < cpu::kAttentionChunkRows; ++row) {  // past the last: as the last
      const int64_t limit = SeenEnd(std::min(row, num_rows_ - 1));
      while (seen_end < end && KeyRow(seen_end) < limit) ++seen_end;
      seen_[row] = static_cast<float>(seen_end - begin);
    }
  }

  // What to fetch during a block: the keys and values of the next block (after the last, of the
  // group that follows) and a share of the output, the base and the queries that follow.
  void ListRowsAfter(int64_t block, int64_t blocks, RowPrefetcher& prefetcher) const {
    const auto share = [&](int64_t count, int64_t i) { return count * i / blocks; };
    if (block + 1 < blocks) {
      prefetcher.Add(
          KeysAndValues(group_, share(num_keys_, block + 1), share(num_keys_, block + 2)));
    } else if (group_.next != nullptr) {
      prefetcher.Add(KeysAndValues(*group_.next, 0, std::min(group_.next->num_keys, kKeyBlock)));
    }
    const int64_t begin = share(num_rows_, block);
    const int64_t end = share(num_rows_, block + 1);
    const int64_t row = first_row_ + begin;
    prefetcher.Add({.a = group_.output + row * group_.output_stride,
                    .a_stride = group_.output_stride,
                    .b = group_.base == nullptr ? nullptr : group_.base + row * group_.base_stride,
                    .b_stride = group_.base_stride,
                    .count = end - begin});
    if (group_.next == nullptr) return;
    const int64_t next_rows = std::min(group_.next->num_rows, cpu::kAttentionChunkRows);
    const int64_t next_begin = share(next_rows, block);
    prefetcher.Add({.a = group_.next->query + next_begin * group_.next->query_stride,
                    .a_stride = group_.next->query_stride,
                    .count = share(next_rows, block + 1) - next_begin});
  }

  template <bool kColumnSums>
  struct PanelStep {
    template <int kVectors>
    static void Call(Chunk& chunk, int64_t row, int64_t num_keys, bool is_first,
                     RowPrefetcher& prefetcher) {
      const int64_t head_dim = chunk.group_.head_dim;
      AttentionScratch& scratch = chunk.scratch_;
      float* output = scratch.output + row * head_dim;
      const int64_t lanes = kVectors * VectorLanes();
      bool is_masked = false;
      if (chunk.is_on_diagonal_) {
        num_keys = static_cast<int64_t>(chunk.seen_[row + lanes - 1]);
        is_masked = chunk.seen_[row] < chunk.seen_[row + lanes - 1];
        if (num_keys == 0) {
          if (is_first) std::fill_n(output, lanes * head_dim, 0.0f);
          return;
        }
      }
      float old_maximum[cpu::kMaxPanelLanes];
      std::memcpy(old_maximum, scratch.maximum + row, sizeof(float) * kVectors * VectorLanes());
      prefetcher.Begin(row / PanelLanes(), CeilDivide(chunk.num_rows_, PanelLanes()));
      RowsTimesPanel<kVectors, true>(chunk.keys_, num_keys, scratch.query + row * head_dim,
                                     head_dim, scratch.scores, scratch.maximum + row, prefetcher);
      if (is_masked) chunk.FindSeenMaximum<kVectors>(row, num_keys, old_maximum);
      const bool is_shifted = chunk.RaiseMaximum<kVectors>(row, num_keys);
      if (!is_first) chunk.Rescale<kVectors>(row, old_maximum);
      if (is_masked) {
        chunk.Softmax<kVectors, kColumnSums, true>(row, num_keys, is_shifted);
      } else {
        chunk.Softmax<kVectors, kColumnSums, false>(row, num_keys, is_shifted);
      }
      if (is_first) {
        AccumulateTransposedRows<kVectors, false>(chunk.values_, num_keys, head_dim, scratch.scores,
                                                  output, prefetcher);
      } else {
        AccumulateTransposedRows<kVectors, true>(chunk.values_, num_keys, head_dim, scratch.scores,
                                                 output, prefetcher);
      }
    }
  };

  // The running maximum over the keys that each row sees: after a product over all of the panel's.
  template <int kVectors>
  void FindSeenMaximum(int64_t row, int64_t num_keys, const float* old_maximum) {
    const FloatTag d;
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lane = v * VectorLanes();
      const FloatVector seen = hn::LoadU(d, seen_ + row + lane);
      FloatVector most = hn::LoadU(d, old_maximum + lane);
      for (int64_t j = 0; j < num_keys; ++j) {
        const FloatVector score =
            hn::Load(d, scratch_.scores + j * kVectors * VectorLanes() + lane);
        const auto sees = hn::Lt(hn::Set(d, static_cast<float>(j)), seen);
        most = hn::IfThenElse(sees, hn::Max(score, most), most);
      }
      hn::Store(most, d, scratch_.maximum + row + lane);
    }
  }

  // Rounds the maxima up to integers. When one is beyond the range of Exp2's rounding shift (or an
  // overflow made it infinite), subtracts them from the scores at once and returns true.
  template <int kVectors>
  bool RaiseMaximum(int64_t row, int64_t num_keys) {
    const FloatTag d;
    const FloatVector limit = hn::Set(d, 1048576.0f);
    float* maximum = scratch_.maximum + row;
    bool fits = true;
    for (int v = 0; v < kVectors; ++v) {
      const FloatVector raised = hn::Ceil(hn::Load(d, maximum + v * VectorLanes()));
      fits = fits && hn::AllTrue(d, hn::Le(hn::Abs(raised), limit));
      hn::Store(raised, d, maximum + v * VectorLanes());
    }
    if (HWY_LIKELY(fits)) return false;
    for (int v = 0; v < kVectors; ++v) {
      const FloatVector most =
          hn::Max(hn::Min(hn::Load(d, maximum + v * VectorLanes()), hn::Set(d, -kLowest)),
                  hn::Set(d, kLowest));
      hn::Store(most, d, maximum + v * VectorLanes());
      for (int64_t j = 0; j < num_keys; ++j) {
        float* score = scratch_.scores + (j * kVectors + v) * VectorLanes();
        hn::Store(hn::Min(hn::Sub(hn::Load(d, score), most), hn::Zero(d)), d, score);
      }
    }
    return true;
  }

  // Brings sum and output to the new maximum.
  template <int kVectors>
  void Rescale(int64_t row, const float* old_maximum) {
    const FloatTag d;
    FloatVector factor[kVectors];
    bool has_moved = false;
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lane = v * VectorLanes();
      const FloatVector before = hn::LoadU(d, old_maximum + lane);
      const FloatVector now = hn::Load(d, scratch_.maximum + row + lane);
      has_moved = has_moved || !hn::AllTrue(d, hn::Eq(before, now));
      factor[v] = Exp2(d, hn::Sub(before, now));
    }
    if (!has_moved) return;
    float* output = scratch_.output + row * group_.head_dim;
    for (int v = 0; v < kVectors; ++v) {
      float* sum = scratch_.sum + row + v * VectorLanes();
      hn::Store(hn::Mul(hn::Load(d, sum), factor[v]), d, sum);
    }
    for (int64_t k = 0; k < group_.head_dim; ++k) {
      for (int v = 0; v < kVectors; ++v) {
        float* o = output + (k * kVectors + v) * VectorLanes();
        hn::Store(hn::Mul(hn::Load(d, o), factor[v]), d, o);
      }
    }
  }

  // scores <- 2^(scores - maximum), and their sum; the column sums of the panel are added to
  // column_parts. is_shifted: the maximum has been subtracted already. kMasked: what a row does not
  // see becomes 0.
  template <int kVectors, bool kColumnSums, bool kMasked>
  void Softmax(int64_t row, int64_t num_keys, bool is_shifted) {
    const FloatTag d;
    FloatVector shift[kVectors];
    FloatVector floor[kVectors];
    FloatVector sum[kVectors];
    FloatVector weight[kVectors];
    FloatVector seen[kVectors];
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lane = row + v * VectorLanes();
      if (kMasked) seen[v] = hn::LoadU(d, seen_ + lane);
      const FloatVector maximum = hn::Load(d, scratch_.maximum + lane);
      const FloatVector base = is_shifted ? hn::Zero(d) : maximum;
      shift[v] = hn::Sub(hn::Set(d, kRoundingShift), base);
      floor[v] = hn::Add(hn::Set(d, kExp2Floor), base);
      sum[v] = hn::Load(d, scratch_.sum + lane);
      if (kColumnSums) {
        const FloatVector reference = hn::Load(d, scratch_.reference + lane);
        weight[v] = Exp2(d, hn::Sub(maximum, reference));
        weight[v] = hn::IfThenZeroElse(hn::Eq(reference, hn::Inf(d)), weight[v]);
      }
    }
    float* HWY_RESTRICT scores = scratch_.scores;
    float* HWY_RESTRICT parts = scratch_.column_parts;
    for (int64_t j = 0; j < num_keys; ++j) {
      FloatVector part = hn::Zero(d);
      if (kColumnSums) part = hn::Load(d, parts + j * VectorLanes());
      TAMIAS_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        FloatVector p = Exp2(d, hn::Load(d, scores + v * VectorLanes()), shift[v], floor[v]);
        if (kMasked) {
          p = hn::IfThenElseZero(hn::Lt(hn::Set(d, static_cast<float>(j)), seen[v]), p);
        }
        hn::Store(p, d, scores + v * VectorLanes());
        sum[v] = hn::Add(sum[v], p);
        if (kColumnSums) part = hn::MulAdd(p, weight[v], part);
      }
      if (kColumnSums) hn::Store(part, d, parts + j * VectorLanes());
      scores += kVectors * VectorLanes();
    }
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(sum[v], d, scratch_.sum + row + v * VectorLanes());
    }
  }

  void ReduceColumnSums(int64_t begin, int64_t end) {
    const FloatTag d;
    for (int64_t j = begin; j < end; ++j) {
      const FloatVector part = hn::Load(d, scratch_.column_parts + (j - begin) * VectorLanes());
      const float sum = hn::GetLane(hn::SumOfLanes(d, part));
      group_.column_sums[j] = first_row_ == 0 ? sum : group_.column_sums[j] + sum;
    }
  }

  // Normalises a panel of outputs, combines it with the base and writes it out row by row.
  struct StoreOutput {
    template <int kVectors>
    static void Call(Chunk& chunk, int64_t row) {
      const AttentionGroup& group = chunk.group_;
      const int64_t lanes = kVectors * VectorLanes();
      HWY_ALIGN float weight[cpu::kMaxPanelLanes];
      HWY_ALIGN float base_weight[cpu::kMaxPanelLanes];
      for (int v = 0; v < kVectors; ++v) {
        const int64_t lane = v * VectorLanes();
        chunk.OutputWeights(row + lane, weight + lane, base_weight + lane);
      }
      float* rows[cpu::kMaxPanelLanes];
      for (int64_t i = 0; i < lanes; ++i) {
        rows[i] = row + i < chunk.num_rows_
                      ? group.output + (chunk.first_row_ + row + i) * group.output_stride
                      : chunk.scratch_.unused_row;
      }
      const float* panel = chunk.scratch_.output + row * group.head_dim;
      if (group.base == nullptr) {
        StorePanel<kVectors, false>(panel, group.head_dim, weight, nullptr, nullptr, rows);
      } else {
        const float* base[cpu::kMaxPanelLanes];
        chunk.RowPointers(group.base, group.base_stride, row, lanes, base);
        StorePanel<kVectors, true>(panel, group.head_dim, weight, base, base_weight, rows);
      }
    }
  };

  // For one vector of rows: the factors of the summed outputs and of the base, and the log-sum-exp.
  void OutputWeights(int64_t row, float* weight, float* base_weight) {
    const FloatTag d;
    const FloatVector minus_infinity = hn::Neg(hn::Inf(d));
    const FloatVector sum = hn::Load(d, scratch_.sum + row);
    const auto has_keys = hn::Gt(sum, hn::Zero(d));
    const FloatVector inverse =
        hn::IfThenElseZero(has_keys, hn::Div(hn::Set(d, group_.output_scale), sum));
    FloatVector ours = inverse;
    FloatVector theirs = hn::Set(d, 1.0f);
    const int64_t remaining = num_rows_ - row;
    if (group_.log_sum_exp != nullptr || group_.base_log_sum_exp != nullptr) {
      const FloatVector lse = hn::IfThenElse(
          has_keys, hn::Add(hn::Load(d, scratch_.maximum + row), hn::Log2(d, sum)), minus_infinity);
      if (group_.base_log_sum_exp != nullptr) {
        HWY_ALIGN float base_lse[cpu::kMaxPanelLanes] = {};
        for (int64_t i = 0; i < std::min(remaining, VectorLanes()); ++i) {
          base_lse[i] = group_.base_log_sum_exp[first_row_ + row + i];
        }
        const FloatVector other = hn::Mul(hn::Load(d, base_lse), hn::Set(d, cpu::kLog2E));
        MergeWeights(lse, other, ours, theirs);
        ours = hn::Mul(ours, inverse);
      }
      if (group_.log_sum_exp != nullptr) {
        HWY_ALIGN float natural[cpu::kMaxPanelLanes];
        hn::Store(hn::Mul(lse, hn::Set(d, cpu::kLn2)), d, natural);
        for (int64_t i = 0; i < std::min(remaining, VectorLanes()); ++i) {
          group_.log_sum_exp[first_row_ + row + i] = natural[i];
        }
      }
    }
    hn::Store(ours, d, weight);
    hn::Store(theirs, d, base_weight);
  }

  // a = 2^lse_a / (2^lse_a + 2^lse_b), b likewise; an lse of -inf gives weight 0.
  static void MergeWeights(FloatVector lse_a, FloatVector lse_b, FloatVector& a, FloatVector& b) {
    const FloatTag d;
    const FloatVector most =
        hn::Max(hn::Max(lse_a, lse_b), hn::Set(d, std::numeric_limits<float>::lowest()));
    const auto a_counts = hn::Gt(lse_a, hn::Neg(hn::Inf(d)));
    const auto b_counts = hn::Gt(lse_b, hn::Neg(hn::Inf(d)));
    a = hn::IfThenElseZero(a_counts, Exp2(d, hn::Sub(lse_a, most)));
    b = hn::IfThenElseZero(b_counts, Exp2(d, hn::Sub(lse_b, most)));
    const FloatVector total = hn::Max(hn::Add(a, b), hn::Set(d, 0.5f));  // 0 only if both are
    a = hn::Div(a, total);
    b = hn::Div(b, total);
  }

  const AttentionGroup& group_;
  AttentionScratch& scratch_;
  const int64_t first_row_;
  const int64_t num_rows_;
  const int64_t num_keys_;  // that its last row sees
  const float* keys_[kKeyBlock];
  const float* values_[kKeyBlock];
  bool is_on_diagonal_ = false;           // some row does not see all keys of the block
  float seen_[cpu::kAttentionChunkRows];  // how many of them each row sees, then
};

void AttendGroup(const AttentionGroup& group, float* memory) {
  static_assert(kPanelVectors * hn::MaxLanes(FloatTag()) <= cpu::kMaxPanelLanes);
  AttentionScratch scratch(group.head_dim, memory);
  for (int64_t row = 0; row < group.num_rows; row += cpu::kAttentionChunkRows) {
    Chunk(group, row, scratch).Run();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(AttendGroup);

namespace cpu {

int64_t AttentionScratchFloats(int64_t head_dim) { return AttentionScratch(head_dim).used; }

void AttendGroup(const AttentionGroup& group, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendGroup)(group, scratch);
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
