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
//
// bf16: where the processor multiplies pairs of it, panels of Q hold pairs along D, rows of K are
// read in place as pairs, and pairs of keys are what P and V are multiplied in: the softmax writes
// P so, and the rows of V of a block are interleaved once for all panels. Where it multiplies tiles
// of them (tile_products-inl.h), the keys of a block are copied side by side, and its values are
// transposed, once for all panels. Elsewhere the rows of a block are widened once for all panels,
// and the rest is fp32.
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
#include <type_traits>

#include "ops/cpu/attention_scratch.h"
#include "ops/cpu/bfloat16.h"
#include "ops/cpu/exp2-inl.h"
#include "ops/cpu/lanes-inl.h"
#include "ops/cpu/panel_kernels-inl.h"
#include "ops/cpu/row_prefetcher-inl.h"
#include "ops/cpu/tile_products-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tamias {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
using cpu::AttentionGroup;
using cpu::AttentionScratch;

constexpr float kLog2E = 1.44269504f;
constexpr float kLn2 = 0.693147181f;
constexpr float kLowest = -1e30f;  // stands for -inf, with which differences make NaN

// Keys [begin, end) of a group and their values.
template <typename T>
RowList<T> KeysAndValues(const AttentionGroup<T>& group, int64_t begin, int64_t end) {
  const int64_t first = group.indices != nullptr ? 0 : begin;
  return {.a = group.key + first * group.key_stride,
          .a_stride = group.key_stride,
          .b = group.value + first * group.value_stride,
          .b_stride = group.value_stride,
          .indices = group.indices != nullptr ? group.indices + begin : nullptr,
          .count = end - begin};
}

// One chunk of up to kAttentionChunkRows rows of a group of T, multiplied as Products.
template <class Products, typename T>
class Chunk {
  using Element = typename Products::Element;
  static constexpr bool kPairs = Products::kElements == 2;
  static constexpr bool kTiles = Products::kTiles;
  static constexpr bool kWidens = !std::is_same_v<Element, T>;
  static constexpr int64_t kKeyBlock = kTiles   ? cpu::kKeyBlockOfTiles
                                       : kPairs ? cpu::kKeyBlockOfPairs
                                                : cpu::kKeyBlock;

 public:
  Chunk(const AttentionGroup<T>& group, int64_t first_row, AttentionScratch& scratch)
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
  void RowPointers(const T* matrix, int64_t stride, int64_t row, int64_t lanes,
                   const T** pointers) const {
    for (int64_t i = 0; i < lanes; ++i) {
      pointers[i] = matrix + (first_row_ + std::min(row + i, num_rows_ - 1)) * stride;
    }
  }

  struct LoadQuery {
    template <int kVectors>
    static void Call(Chunk& chunk, int64_t row) {
      const AttentionGroup<T>& group = chunk.group_;
      AttentionScratch& scratch = chunk.scratch_;
      const int64_t lanes = kVectors * VectorLanes();
      const T* rows[cpu::kMaxPanelLanes];
      chunk.RowPointers(group.query, group.query_stride, row, lanes, rows);
      float* panel = chunk.QueryPanel(row);
      if constexpr (kPairs) {
        LoadPairPanel<kVectors>(rows, group.head_dim, panel);
      } else {
        LoadPanel<kVectors>(rows, group.head_dim, chunk.ScoreScale(), panel);
      }
      std::fill_n(scratch.maximum + row, lanes, kLowest);
      std::fill_n(scratch.sum + row, lanes, 0.0f);
      if (group.column_sums == nullptr) return;
      for (int64_t i = 0; i < lanes; ++i) {  // unused lanes: no weight in the column sums
        const bool used = row + i < chunk.num_rows_;
        scratch.reference[row + i] =
            used ? group.previous_log_sum_exp[chunk.first_row_ + row + i] * kLog2E
                 : std::numeric_limits<float>::infinity();
      }
    }
  };

  // Of scores, in units of log2(e).
  float ScoreScale() const { return group_.scale * kLog2E; }

  float* QueryPanel(int64_t row) const {
    return scratch_.query + row * CeilDivide(group_.head_dim, Products::kElements);
  }

  // The rows of the block [begin, end), as the products want them.
  void ListBlock(int64_t begin, int64_t end) {
    const int64_t count = end - begin, head_dim = group_.head_dim;
    [[maybe_unused]] const T* values[kKeyBlock];
    [[maybe_unused]] float* wide = scratch_.prepared;
    for (int64_t j = 0; j < count; ++j) {
      const int64_t index = KeyRow(begin + j);
      const T* key = group_.key + index * group_.key_stride;
      const T* value = group_.value + index * group_.value_stride;
      if constexpr (kTiles) {
        std::copy_n(key, head_dim, reinterpret_cast<T*>(scratch_.prepared) + j * head_dim);
        values[j] = value;
      } else if constexpr (kWidens) {
        WidenRow(key, wide);
        WidenRow(value, wide + head_dim);
        keys_[j] = wide;
        values_[j] = wide + head_dim;
        wide += 2 * head_dim;
      } else {
        keys_[j] = key;
        (kPairs ? values : values_)[j] = value;
      }
    }
    if constexpr (kTiles) {
      TransposeValues(values, count);
    } else if constexpr (kPairs) {
      auto* pairs = reinterpret_cast<T*>(scratch_.prepared);
      for (int64_t j = 0; j < count; j += 2, pairs += 2 * head_dim) {
        InterleaveRows(values[j], j + 1 < count ? values[j + 1] : nullptr, head_dim, pairs);
        values_[j / 2] = pairs;
      }
    }
  }

  // The values of a block, pairs of keys along the rows of tiles, 16 pairs at a time.
  void TransposeValues(const T* const* values, int64_t count) {
    const int64_t head_dim = group_.head_dim;
    float* to = TransposedValues();
    auto* pairs = reinterpret_cast<T*>(to + kKeyBlock / 2 * head_dim);
    const T* rows[cpu::tiles::kRows];
    for (int64_t first = 0; first < count; first += cpu::tiles::kDepth) {
      for (int64_t i = 0; i < cpu::tiles::kRows; ++i) {
        const int64_t j = first + 2 * i;
        T* pair = pairs + i * 2 * head_dim;
        if (j < count) {
          InterleaveRows(values[j], j + 1 < count ? values[j + 1] : nullptr, head_dim, pair);
        } else {
          std::fill_n(pair, 2 * head_dim, T());
        }
        rows[i] = pair;
      }
      LoadPairPanel<1>(rows, 2 * head_dim, to + first / 2 * head_dim);
    }
  }

  // After the keys of a block.
  float* TransposedValues() const {
    return scratch_.prepared + cpu::kKeyBlockOfTiles / 2 * group_.head_dim;
  }

  void WidenRow(const BFloat16* row, float* wide) const {
    const auto* from = reinterpret_cast<const hwy::bfloat16_t*>(row);
    lanes::ForEach(static_cast<size_t>(group_.head_dim), [&](auto d, size_t i) HWY_ATTR {
      hn::StoreU(lanes::LoadWidened(d, from + i), d, wide + i);
    });
  }

  void RunBlock(int64_t block, int64_t blocks) {
    const int64_t begin = num_keys_ * block / blocks;
    const int64_t end = num_keys_ * (block + 1) / blocks;
    ListBlock(begin, end);
    if (group_.column_sums != nullptr) {
      std::fill_n(scratch_.column_parts, kKeyBlock * VectorLanes(), 0.0f);
    }
    is_on_diagonal_ = KeyRow(end - 1) >= SeenEnd(0);
    if (is_on_diagonal_) CountSeenKeys(begin, end);
    RowPrefetcher<T> prefetcher(group_.head_dim);
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
  void ListRowsAfter(int64_t block, int64_t blocks, RowPrefetcher<T>& prefetcher) const {
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
                     RowPrefetcher<T>& prefetcher) {
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
      chunk.template Scores<kVectors>(row, num_keys, prefetcher);
      if (is_masked) chunk.template FindSeenMaximum<kVectors>(row, num_keys, old_maximum);
      const bool is_shifted = chunk.template RaiseMaximum<kVectors>(row, num_keys);
      if (!is_first) chunk.template Rescale<kVectors>(row, old_maximum);
      if (is_masked) {
        chunk.template Softmax<kVectors, kColumnSums, true>(row, num_keys, is_shifted);
      } else {
        chunk.template Softmax<kVectors, kColumnSums, false>(row, num_keys, is_shifted);
      }
      if (is_first) {
        chunk.template AddValues<kVectors, false>(num_keys, output, prefetcher);
      } else {
        chunk.template AddValues<kVectors, true>(num_keys, output, prefetcher);
      }
    }
  };

  // The scores of a panel, in units of log2(e), and their maximum with what it was.
  template <int kVectors>
  void Scores(int64_t row, int64_t num_keys, RowPrefetcher<T>& prefetcher) {
    float* maximum = scratch_.maximum + row;
    if constexpr (kTiles) {
      TileRowsTimesPanel<kVectors>(reinterpret_cast<const T*>(scratch_.prepared), num_keys,
                                   QueryPanel(row), group_.head_dim, scratch_.scores, prefetcher);
      ScaleScores<kVectors>(num_keys, ScoreScale(), scratch_.scores, maximum);
    } else {
      RowsTimesPanel<Products, kVectors, true>(keys_, num_keys, QueryPanel(row), group_.head_dim,
                                               ScoreScale(), scratch_.scores, maximum, prefetcher);
    }
  }

  // output [D][lanes] of a panel: the values by their weights, added to it or in its place.
  template <int kVectors, bool kAccumulate>
  void AddValues(int64_t num_keys, float* output, RowPrefetcher<T>& prefetcher) {
    const int64_t steps = CeilDivide(num_keys, Products::kElements);
    if constexpr (kTiles) {
      const int64_t lanes = kVectors * VectorLanes();
      const int64_t whole = CeilDivide(steps, cpu::tiles::kRows) * cpu::tiles::kRows;
      std::fill(scratch_.scores + steps * lanes, scratch_.scores + whole * lanes, 0.0f);
      TileAccumulate<kVectors, kAccumulate>(TransposedValues(), steps, group_.head_dim,
                                            scratch_.scores, output, prefetcher);
    } else {
      AccumulateTransposedRows<Products, kVectors, kAccumulate>(
          values_, steps, group_.head_dim, scratch_.scores, output, prefetcher);
    }
  }

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

  // What the softmax of a panel keeps in registers, for each vector of rows.
  template <int kVectors>
  struct SoftmaxRows {
    FloatVector shift[kVectors];
    FloatVector floor[kVectors];
    FloatVector sum[kVectors];
    FloatVector weight[kVectors];  // of the column sums
    FloatVector seen[kVectors];
  };

  // p = 2^(score - maximum) of key j, added to the sums and to the key's column sum.
  template <int kVectors, bool kColumnSums, bool kMasked>
  HWY_INLINE void SoftmaxOfKey(int64_t j, SoftmaxRows<kVectors>& rows, FloatVector (&p)[kVectors]) {
    const FloatTag d;
    const float* scores = scratch_.scores + j * kVectors * VectorLanes();
    float* parts = scratch_.column_parts + j * VectorLanes();
    FloatVector part = hn::Zero(d);
    if (kColumnSums) part = hn::Load(d, parts);
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      p[v] = Exp2(d, hn::Load(d, scores + v * VectorLanes()), rows.shift[v], rows.floor[v]);
      if (kMasked) {
        p[v] = hn::IfThenElseZero(hn::Lt(hn::Set(d, static_cast<float>(j)), rows.seen[v]), p[v]);
      }
      rows.sum[v] = hn::Add(rows.sum[v], p[v]);
      if (kColumnSums) part = hn::MulAdd(p[v], rows.weight[v], part);
    }
    if (kColumnSums) hn::Store(part, d, parts);
  }

  // scores <- 2^(scores - maximum), and their sum; the column sums of the panel are added to
  // column_parts. Of pairs: keys 2 i and 2 i + 1 become row i. is_shifted: the maximum has been
  // subtracted already. kMasked: what a row does not see becomes 0.
  template <int kVectors, bool kColumnSums, bool kMasked>
  void Softmax(int64_t row, int64_t num_keys, bool is_shifted) {
    const FloatTag d;
    SoftmaxRows<kVectors> rows;
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lane = row + v * VectorLanes();
      if (kMasked) rows.seen[v] = hn::LoadU(d, seen_ + lane);
      const FloatVector maximum = hn::Load(d, scratch_.maximum + lane);
      const FloatVector base = is_shifted ? hn::Zero(d) : maximum;
      rows.shift[v] = hn::Sub(hn::Set(d, kRoundingShift), base);
      rows.floor[v] = hn::Add(hn::Set(d, kExp2Floor), base);
      rows.sum[v] = hn::Load(d, scratch_.sum + lane);
      if (kColumnSums) {
        const FloatVector reference = hn::Load(d, scratch_.reference + lane);
        rows.weight[v] = Exp2(d, hn::Sub(maximum, reference));
        rows.weight[v] = hn::IfThenZeroElse(hn::Eq(reference, hn::Inf(d)), rows.weight[v]);
      }
    }
    float* to = scratch_.scores;
    for (int64_t j = 0; j < num_keys; j += Products::kElements, to += kVectors * VectorLanes()) {
      FloatVector p[kVectors];
      SoftmaxOfKey<kVectors, kColumnSums, kMasked>(j, rows, p);
      if constexpr (kPairs) {
        FloatVector partner[kVectors];
        if (j + 1 < num_keys) {
          SoftmaxOfKey<kVectors, kColumnSums, kMasked>(j + 1, rows, partner);
        } else {
          TAMIAS_UNROLL
          for (int v = 0; v < kVectors; ++v) partner[v] = hn::Zero(d);
        }
        TAMIAS_UNROLL
        for (int v = 0; v < kVectors; ++v) p[v] = PairOf(p[v], partner[v]);
      }
      TAMIAS_UNROLL
      for (int v = 0; v < kVectors; ++v) hn::Store(p[v], d, to + v * VectorLanes());
    }
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      hn::Store(rows.sum[v], d, scratch_.sum + row + v * VectorLanes());
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
      const AttentionGroup<T>& group = chunk.group_;
      const int64_t lanes = kVectors * VectorLanes();
      HWY_ALIGN float weight[cpu::kMaxPanelLanes];
      HWY_ALIGN float base_weight[cpu::kMaxPanelLanes];
      for (int v = 0; v < kVectors; ++v) {
        const int64_t lane = v * VectorLanes();
        chunk.OutputWeights(row + lane, weight + lane, base_weight + lane);
      }
      T* rows[cpu::kMaxPanelLanes];
      for (int64_t i = 0; i < lanes; ++i) {
        rows[i] = row + i < chunk.num_rows_
                      ? group.output + (chunk.first_row_ + row + i) * group.output_stride
                      : reinterpret_cast<T*>(chunk.scratch_.unused_row);
      }
      const float* panel = chunk.scratch_.output + row * group.head_dim;
      if (group.base == nullptr) {
        StorePanel<kVectors, false, T>(panel, group.head_dim, weight, nullptr, nullptr, rows);
      } else {
        const T* base[cpu::kMaxPanelLanes];
        chunk.RowPointers(group.base, group.base_stride, row, lanes, base);
        StorePanel<kVectors, true, T>(panel, group.head_dim, weight, base, base_weight, rows);
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
        const FloatVector other = hn::Mul(hn::Load(d, base_lse), hn::Set(d, kLog2E));
        MergeWeights(lse, other, ours, theirs);
        ours = hn::Mul(ours, inverse);
      }
      if (group_.log_sum_exp != nullptr) {
        HWY_ALIGN float natural[cpu::kMaxPanelLanes];
        hn::Store(hn::Mul(lse, hn::Set(d, kLn2)), d, natural);
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

  const AttentionGroup<T>& group_;
  AttentionScratch& scratch_;
  const int64_t first_row_;
  const int64_t num_rows_;
  const int64_t num_keys_;  // that its last row sees
  const Element* keys_[kKeyBlock];
  const Element* values_[kKeyBlock];      // of pairs: interleaved, half as many
  bool is_on_diagonal_ = false;           // some row does not see all keys of the block
  float seen_[cpu::kAttentionChunkRows];  // how many of them each row sees, then
};

template <class Products, typename T>
void AttendAs(const AttentionGroup<T>& group, float* memory) {
  static_assert(kPanelVectors * hn::MaxLanes(FloatTag()) <= cpu::kMaxPanelLanes);
  AttentionScratch scratch(group.head_dim, DTypeOf<T>::value, memory);
  for (int64_t row = 0; row < group.num_rows; row += cpu::kAttentionChunkRows) {
    Chunk<Products, T>(group, row, scratch).Run();
  }
}

void AttendFloats(const AttentionGroup<float>& group, float* memory) {
  AttendAs<FloatProducts>(group, memory);
}

void AttendBFloat16s(const AttentionGroup<BFloat16>& group,
                     [[maybe_unused]] cpu::Multiplier multiplier, float* memory) {
#if HWY_TARGET == HWY_AVX3
  if (multiplier == cpu::Multiplier::kTiles) {
    const cpu::tiles::Session session;
    return AttendAs<TileProducts>(group, memory);
  }
  if (multiplier == cpu::Multiplier::kPairs) return AttendAs<PairProducts>(group, memory);
#endif
  AttendAs<FloatProducts>(group, memory);
}

}  // namespace HWY_NAMESPACE
}  // namespace tamias
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tamias {
HWY_EXPORT(AttendFloats);
HWY_EXPORT(AttendBFloat16s);

namespace cpu {

int64_t AttentionScratchFloats(int64_t head_dim, DType dtype) {
  return AttentionScratch(head_dim, dtype).used;
}

void AttendGroup(const AttentionGroup<float>& group, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendFloats)(group, scratch);
}

void AttendGroup(const AttentionGroup<BFloat16>& group, float* scratch) {
  HWY_DYNAMIC_DISPATCH(AttendBFloat16s)(group, BFloat16Multiplier(group.head_dim), scratch);
}

}  // namespace cpu
}  // namespace tamias
#endif  // HWY_ONCE
