// Attention of one group of query rows over listed key columns. Query rows lie along the SIMD
// lanes: Q is transposed once into panels Q^T [D][lanes]; S^T = K Q^T and O^T += V^T P^T read the
// rows of K and V in place (panel_kernels-inl.h), and the online softmax (Milakov and Gimelshein,
// arXiv 1805.02867) runs lane by lane without any horizontal step. Loops: blocks of keys outside,
// panels inside, so that a block of K and V serves all rows of the group from the L2 cache.
//
// Scores are in units of log2(e): softmax is computed with powers of two. The running maximum is
// rounded up to an integer, which makes the subtraction part of the rounding inside Exp2, lets it
// move less often, and makes every rescaling of sums and outputs an exact power of two.
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

// Keys per block: their scores for one panel (13 KiB) stay in the L1 cache. A multiple of the 13
// rows of a register tile.
inline constexpr int64_t kKeyBlock = 104;
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

// Fetches `count` rows of two matrices into the L2 cache, a few before each of `calls` register
// tiles: gathered rows are beyond the hardware prefetcher, and all at once they would fill the line
// buffers. Row i is indices[i], or i where indices is null.
class RowPrefetcher {
 public:
  struct Matrix {
    const float* data;
    int64_t stride;
  };
  RowPrefetcher(Matrix a, Matrix b, const int32_t* indices, int64_t count, int64_t head_dim,
                int64_t calls)
      : a_(a), b_(b), indices_(indices), count_(count), head_dim_(head_dim), calls_(calls) {}

  void operator()() {
    ++call_;
    for (const int64_t end = count_ * call_ / calls_; row_ < end; ++row_) {
      const int64_t index = indices_ != nullptr ? indices_[row_] : row_;
      for (int64_t k = 0; k < head_dim_; k += 16) {
        __builtin_prefetch(a_.data + index * a_.stride + k, 0, 2);
        __builtin_prefetch(b_.data + index * b_.stride + k, 0, 2);
      }
    }
  }

 private:
  Matrix a_, b_;
  const int32_t* indices_;
  int64_t count_, head_dim_, calls_;
  int64_t row_ = 0;
  int64_t call_ = 0;
};

// One chunk of up to kAttentionChunkRows rows of a group.
class Chunk {
 public:
  Chunk(const AttentionGroup& group, int64_t first_row, AttentionScratch& scratch)
      : group_(group),
        scratch_(scratch),
        first_row_(first_row),
        num_rows_(std::min(group.num_rows - first_row, cpu::kAttentionChunkRows)) {}

  void Run() {
    PrefetchQuery(0);
    const int64_t blocks = CeilDivide(group_.num_keys, kKeyBlock);
    RowPrefetcher prefetcher = PrefetcherAfter(0, blocks > 0 ? group_.num_keys / blocks : 0,
                                               CeilDivide(num_rows_, PanelLanes()));
    ForEachPanel<LoadQuery>(prefetcher);
    if (group_.num_keys == 0) {
      std::fill_n(scratch_.output, cpu::kAttentionChunkRows * group_.head_dim, 0.0f);
    }
    for (int64_t block = 0; block < blocks; ++block) RunBlock(block, blocks);
    ForEachPanel<StoreOutput>();
  }

 private:
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

  // Row by row: the transposition takes a few columns of many rows at a time, which the hardware
  // prefetcher does not follow.
  void PrefetchQuery(int64_t row) const {
    const int64_t end = std::min(row + PanelLanes(), num_rows_);
    for (int64_t i = row; i < end; ++i) {
      const float* query = group_.query + (first_row_ + i) * group_.query_stride;
      for (int64_t k = 0; k < group_.head_dim; k += 16) __builtin_prefetch(query + k, 0, 3);
    }
  }

  struct LoadQuery {
    template <int kVectors>
    static void Call(Chunk& chunk, int64_t row, RowPrefetcher& prefetcher) {
      const AttentionGroup& group = chunk.group_;
      AttentionScratch& scratch = chunk.scratch_;
      prefetcher();
      const int64_t lanes = kVectors * VectorLanes();
      const float* rows[cpu::kMaxPanelLanes];
      chunk.PrefetchQuery(row + PanelLanes());
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
    const int64_t begin = group_.num_keys * block / blocks;
    const int64_t end = group_.num_keys * (block + 1) / blocks;
    const int64_t next_end = block + 1 < blocks ? group_.num_keys * (block + 2) / blocks : end;
    for (int64_t j = begin; j < end; ++j) {
      const int64_t index = group_.indices != nullptr ? group_.indices[j] : j;
      keys_[j - begin] = group_.key + index * group_.key_stride;
      values_[j - begin] = group_.value + index * group_.value_stride;
    }
    if (group_.column_sums != nullptr) {
      std::fill_n(scratch_.column_parts, kKeyBlock * VectorLanes(), 0.0f);
    }
    const int64_t tiles =
        CeilDivide(end - begin, kTileRows) + CeilDivide(group_.head_dim, kTileRows);
    RowPrefetcher prefetcher =
        PrefetcherAfter(end, next_end, CeilDivide(num_rows_, PanelLanes()) * tiles);
    if (group_.column_sums != nullptr) {
      ForEachPanel<PanelStep<true>>(end - begin, block == 0, prefetcher);
      ReduceColumnSums(begin, end);
    } else {
      ForEachPanel<PanelStep<false>>(end - begin, block == 0, prefetcher);
    }
  }

  // What is needed next: keys [begin, end) and their values, or after the last block the rows of
  // the base and the output.
  RowPrefetcher PrefetcherAfter(int64_t begin, int64_t end, int64_t calls) const {
    if (begin == end) {
      const float* output = group_.output + first_row_ * group_.output_stride;
      const float* base =
          group_.base == nullptr ? output : group_.base + first_row_ * group_.base_stride;
      return {{output, group_.output_stride},
              {base, group_.base == nullptr ? group_.output_stride : group_.base_stride},
              nullptr,
              num_rows_,
              group_.head_dim,
              calls};
    }
    if (group_.indices != nullptr) {
      return {{group_.key, group_.key_stride},
              {group_.value, group_.value_stride},
              group_.indices + begin,
              end - begin,
              group_.head_dim,
              calls};
    }
    return {{group_.key + begin * group_.key_stride, group_.key_stride},
            {group_.value + begin * group_.value_stride, group_.value_stride},
            nullptr,
            end - begin,
            group_.head_dim,
            calls};
  }

  template <bool kColumnSums>
  struct PanelStep {
    template <int kVectors>
    static void Call(Chunk& chunk, int64_t row, int64_t num_keys, bool is_first,
                     RowPrefetcher& prefetcher) {
      const int64_t head_dim = chunk.group_.head_dim;
      AttentionScratch& scratch = chunk.scratch_;
      float* output = scratch.output + row * head_dim;
      float old_maximum[cpu::kMaxPanelLanes];
      std::memcpy(old_maximum, scratch.maximum + row, sizeof(float) * kVectors * VectorLanes());
      RowsTimesPanel<kVectors, true>(chunk.keys_, num_keys, scratch.query + row * head_dim,
                                     head_dim, scratch.scores, scratch.maximum + row, prefetcher);
      const bool is_shifted = chunk.RaiseMaximum<kVectors>(row, num_keys);
      if (!is_first) chunk.Rescale<kVectors>(row, old_maximum);
      chunk.Softmax<kVectors, kColumnSums>(row, num_keys, is_shifted);
      if (is_first) {
        AccumulateTransposedRows<kVectors, false>(chunk.values_, num_keys, head_dim, scratch.scores,
                                                  output, prefetcher);
      } else {
        AccumulateTransposedRows<kVectors, true>(chunk.values_, num_keys, head_dim, scratch.scores,
                                                 output, prefetcher);
      }
    }
  };

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
  // column_parts. is_shifted: the maximum has been subtracted already.
  template <int kVectors, bool kColumnSums>
  void Softmax(int64_t row, int64_t num_keys, bool is_shifted) {
    const FloatTag d;
    FloatVector shift[kVectors];
    FloatVector floor[kVectors];
    FloatVector sum[kVectors];
    FloatVector weight[kVectors];
    TAMIAS_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const int64_t lane = row + v * VectorLanes();
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
        const FloatVector p = Exp2(d, hn::Load(d, scores + v * VectorLanes()), shift[v], floor[v]);
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
  const float* keys_[kKeyBlock];
  const float* values_[kKeyBlock];
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
